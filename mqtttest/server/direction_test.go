package server

import "testing"

// Each direction has a name, and one that does not exist shows its number.
func TestDirectionNames(t *testing.T) {
	for d, want := range map[Direction]string{ToServer: "to server", ToClient: "to client", Both: "both", 0: "direction 0", 7: "direction 7"} {
		if got := d.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
