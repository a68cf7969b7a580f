package tape

import "testing"

// TestFollow tells the order of the client from that of the wire.
func TestFollow(t *testing.T) {
	for _, c := range []struct {
		name              string
		sent              [][]int // by link
		delivered         []int
		explained, missed int
	}{
		{"in order", [][]int{{1, 2, 3}}, []int{1, 2, 3}, 3, 0},
		{"disordered by the broker", [][]int{{1, 3, 2}}, []int{1, 3, 2}, 3, 0},
		{"disordered by the client", [][]int{{1, 2, 3}}, []int{1, 3, 2}, 2, 1},
		{"cut and sent again", [][]int{{1, 2, 3}, {2, 3, 4}}, []int{1, 2, 3, 4}, 4, 0},
		{"sent again in another order", [][]int{{1, 2, 3, 4}, {4, 3, 2}}, []int{1, 2, 4, 3}, 4, 0},
		{"cut and forgotten", [][]int{{1, 2, 3}, {4}}, []int{1, 4}, 2, 0},
		{"taken for a redelivery", [][]int{{1, 2, 3}, {4}}, []int{1, 3, 4}, 1, 1},
		{"not delivered at the end", [][]int{{1, 2, 3}}, []int{1, 2}, 2, 1},
		{"never sent", [][]int{{1, 2}}, []int{1, 2, 9}, 2, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if explained, missed := Follow(c.sent, c.delivered); explained != c.explained || missed != c.missed {
				t.Errorf("explained %d, missed %d; want %d, %d", explained, missed, c.explained, c.missed)
			}
		})
	}
}
