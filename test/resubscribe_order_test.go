package mqtt_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/millrace/mqtt"
)

// Filters are subscribed again in the order in which they were subscribed first,
// those declared or subscribed offline too, whatever was asked for again meanwhile.
func TestResubscriptionIsInTheOrderOfFirstSubscribing(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		var opts []mqtt.ConnectOption
		for n := range 20 {
			opts = append(opts, mqtt.WithSubscription(fmt.Sprintf("%c", 'z'-n)))
		}
		s := script(t, v, opts...)
		var want []string
		for n := range 20 {
			want = append(want, fmt.Sprintf("%c", 'z'-n))
		}
		for _, p := range s.expectFilters(want) {
			s.suback(0x90, binary.BigEndian.Uint16(p[2:]), make([]byte, len(filtersOf(v, p)))...)
		}
		subscribe(t, s.conn, "w", mqtt.WithoutWaiting()) // asks for it again
		s.expectFilters([]string{"w"})
		s.Cut()
		subscribe(t, s.conn, "b", mqtt.WithoutWaiting())
		subscribe(t, s.conn, "a", mqtt.WithoutWaiting())
		s.next(connack(v, false))
		s.expectFilters(append(want, "b", "a"))
	})
}

// expectFilters reads SUBSCRIBEs until they have as many filters as want, compares
// and returns them.
func (s *scripted) expectFilters(want []string) (packets [][]byte) {
	s.t.Helper()
	var got []string
	for len(got) < len(want) {
		p := s.ExpectPacket()
		if p[0] != 0x82 {
			s.t.Fatalf("got % X, want SUBSCRIBE", p)
		}
		packets = append(packets, p)
		got = append(got, filtersOf(s.v, p)...)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("asked for %v, want %v", got, want)
	}
	return packets
}

// filtersOf reads the filters of a short SUBSCRIBE.
func filtersOf(v mqtt.Version, p []byte) (filters []string) {
	b := p[4:]
	if v == mqtt.V5 {
		b = b[1+int(b[0]):]
	}
	for len(b) > 0 {
		n := int(binary.BigEndian.Uint16(b))
		filters = append(filters, string(b[2:2+n]))
		b = b[2+n+1:]
	}
	return filters
}
