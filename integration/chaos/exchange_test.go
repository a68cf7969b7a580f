package chaos

import (
	"slices"
	"testing"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
)

func TestExchangesTellWhoDoubled(t *testing.T) {
	publish := func(id uint16, n int) mqtt.PacketInfo {
		return mqtt.PacketInfo{Type: codec.PUBLISH, QoS: 2, PacketID: id, Payload: payload(n)}
	}
	pubrel := func(id uint16) mqtt.PacketInfo { return mqtt.PacketInfo{Type: codec.PUBREL, PacketID: id} }
	for _, c := range []struct {
		name string
		seen []mqtt.PacketInfo
		anew []int
	}{
		{"once", []mqtt.PacketInfo{publish(1, 7), pubrel(1)}, nil},
		{"sent again before PUBREL", []mqtt.PacketInfo{publish(1, 7), publish(1, 7), pubrel(1)}, nil},
		{"sent again after PUBREL", []mqtt.PacketInfo{publish(1, 7), pubrel(1), publish(1, 7)}, []int{7}},
		{"identifier used again", []mqtt.PacketInfo{publish(1, 7), pubrel(1), publish(1, 8)}, nil},
		{"taken twice from the publisher", []mqtt.PacketInfo{publish(1, 7), pubrel(1), publish(2, 7)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var anew []int
			e := newExchanges(func(n int) { anew = append(anew, n) })
			for _, p := range c.seen {
				e.see(p)
			}
			if !slices.Equal(anew, c.anew) {
				t.Errorf("%v, want %v", anew, c.anew)
			}
		})
	}
}
