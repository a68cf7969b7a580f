package chaos

import (
	"reflect"
	"testing"

	"github.com/millrace/mqtt/codec"
)

// sent is a PUBLISH of lane 1, which is QoS 2.
func sent(down bool, id uint16, n int) packet {
	return packet{down: down, kind: codec.PUBLISH, id: id, m: message{1, n}}
}

func answer(down bool, kind codec.Type, id uint16, code codec.ReasonCode) packet {
	return packet{down: down, kind: kind, id: id, code: code}
}

// exchange is a whole exchange of lane 1; down says that the broker began it.
func exchange(down bool, id uint16, n int) []packet {
	return []packet{sent(down, id, n), answer(!down, codec.PUBREC, id, 0), answer(down, codec.PUBREL, id, 0), answer(!down, codec.PUBCOMP, id, 0)}
}

func onLink(exchanges ...[]packet) (all []packet) {
	for _, e := range exchanges {
		all = append(all, e...)
	}
	return all
}

// listen is hear without files.
func listen(publisher, receiver, witness [][]packet) *trial {
	t := &trial{publisher: newGiven(), receiver: newHanded(), witness: newHanded()}
	for a, links := range map[account][][]packet{t.publisher: publisher, t.receiver: receiver, t.witness: witness} {
		for _, packets := range links {
			a.link()
			for _, p := range packets {
				a.see(p)
			}
		}
	}
	return t
}

// TestTrial promises 1, 2 and 3, hands them to the witness and looks at who is
// blamed for what became of them at the receiver.
func TestTrial(t *testing.T) {
	up := func(id uint16, n int) []packet { return exchange(false, id, n) }
	down := func(id uint16, n int) []packet { return exchange(true, id, n) }
	all := [][]packet{onLink(up(1, 1), up(2, 2), up(3, 3))}
	inUse := answer(true, codec.PUBREC, 2, codec.PacketIdentifierInUse)
	for _, c := range []struct {
		name                string
		publisher, receiver [][]packet
		received            []int
		failed              []int
		want                Lane // without what is as always
	}{
		{"kept", all, [][]packet{onLink(down(1, 1), down(2, 2), down(3, 3))}, []int{1, 2, 3}, nil, Lane{}},
		{"not published", [][]packet{onLink(up(1, 1), up(3, 3))}, [][]packet{onLink(down(1, 1), down(3, 3))}, []int{1, 3}, nil, Lane{Lost: 1}},
		{"not taken", [][]packet{onLink(up(1, 1), []packet{sent(false, 2, 2)}, up(3, 3))}, [][]packet{onLink(down(1, 1), down(3, 3))}, []int{1, 3}, nil, Lane{Lost: 1}},
		{"taken and not sent", all, [][]packet{onLink(down(1, 1), down(3, 3))}, []int{1, 3}, nil, Lane{Forgotten: 1}},
		{"cut and not sent again", all, [][]packet{onLink(down(1, 1), []packet{sent(true, 2, 2)}), down(3, 3)}, []int{1, 3}, nil, Lane{Forgotten: 1}},
		{"acknowledged and not delivered", all, [][]packet{onLink(down(1, 1), down(2, 2)), down(3, 3)}, []int{1, 3}, nil, Lane{Lost: 1}},
		{"not delivered on the last link", all, [][]packet{onLink(down(1, 1), []packet{sent(true, 2, 2)}, down(3, 3))}, []int{1, 3}, nil, Lane{Lost: 1, Disorder: 1}},
		{"begun anew", all, [][]packet{onLink(down(1, 1), down(2, 2), down(2, 2), down(3, 3))}, []int{1, 2, 2, 3}, nil, Lane{Doubled: 1, ByBroker: 1}},
		{"sent again", all, [][]packet{{sent(true, 1, 1)}, onLink(down(1, 1), down(2, 2), down(3, 3))}, []int{1, 1, 2, 3}, nil, Lane{Doubled: 1}},
		{"begun anew once and delivered thrice", all, [][]packet{onLink(down(1, 1), down(1, 1), down(2, 2), down(3, 3))}, []int{1, 1, 1, 2, 3}, nil, Lane{Doubled: 2, ByBroker: 1}},
		{"published again behind PUBREL", [][]packet{onLink(up(1, 1), up(2, 2)), onLink(up(2, 2), up(3, 3))}, [][]packet{onLink(down(1, 1), down(2, 2), down(4, 2), down(3, 3))}, []int{1, 2, 2, 3}, nil, Lane{Doubled: 1}},
		{"refused", [][]packet{onLink(up(1, 1), []packet{sent(false, 2, 2)}), onLink([]packet{sent(false, 2, 2), inUse}, up(3, 3))}, [][]packet{onLink(down(1, 1), down(3, 3))}, []int{1, 3}, []int{2}, Lane{Refused: 1}},
		{"failed by itself", all, [][]packet{onLink(down(1, 1), down(2, 2), down(3, 3))}, []int{1, 2, 3}, []int{2}, Lane{Failed: 1}},
		{"out of order by the broker", all, [][]packet{onLink(down(1, 1), down(3, 3), down(2, 2))}, []int{1, 3, 2}, nil, Lane{Resorted: 1}},
		{"out of order by the receiver", all, [][]packet{onLink(down(1, 1), down(2, 2), down(3, 3))}, []int{1, 3, 2}, nil, Lane{Disorder: 2, Resorted: 1}},
		{"out of order by the publisher", [][]packet{onLink(up(1, 1), up(3, 3), up(2, 2))}, [][]packet{onLink(down(1, 1), down(3, 3), down(2, 2))}, []int{1, 3, 2}, nil, Lane{Disorder: 1, Resorted: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sights := func(numbers ...int) (s []sight) {
				for _, n := range numbers {
					s = append(s, sight{n, 1})
				}
				return s
			}
			tr := listen(c.publisher, c.receiver, [][]packet{onLink(down(1, 1), down(2, 2), down(3, 3))})
			got := tr.judge(1, sights(1, 2, 3), sights(c.failed...), sights(c.received...), sights(1, 2, 3))
			got.QoS, got.Promised, got.Received, got.Examples = 0, 0, 0, nil
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v\nwant %+v", got, c.want)
			}
		})
	}
}
