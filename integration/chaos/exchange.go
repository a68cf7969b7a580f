package chaos

import (
	"sync"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
)

// exchanges follows the inbound QoS 2 exchanges of a client on the wire, to tell
// who doubled a message. Mosquitto 2.0.11 at times sends a PUBLISH again on a new
// link, with its identifier and DUP, though it had sent its PUBREL on the one
// before. The receiver then has to take it for a new message [MQTT-4.3.3-12].
type exchanges struct {
	anew     func(n int) // told a number that the broker began again after its PUBREL
	answered func(n int) // told a number whose PUBREC is about to be written
	released func(n int) // told a number whose PUBREL came

	mu   sync.Mutex
	open map[uint16]int  // guarded by mu; numbers that wait for PUBREL
	left map[uint16]bool // guarded by mu; identifiers whose PUBREL came for a PUBLISH to an earlier process
	ids  map[int]uint16  // guarded by mu; the identifier that a number last came with
}

func newExchanges(anew func(n int)) *exchanges {
	nobody := func(int) {}
	return &exchanges{anew: anew, answered: nobody, released: nobody, left: map[uint16]bool{}, open: map[uint16]int{}, ids: map[int]uint16{}}
}

// options make a Conn show its packets.
func (e *exchanges) options() []mqtt.ConnectOption {
	return []mqtt.ConnectOption{mqtt.WithPacketHook(e.see), mqtt.WithPacketPayload()}
}

func (e *exchanges) see(p mqtt.PacketInfo) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, open := e.open[p.PacketID]
	switch {
	case p.Sent:
		if open && p.Type == codec.PUBREC {
			e.answered(n)
		}
	case p.Type == codec.PUBREL:
		if open {
			e.released(n)
		} else {
			e.left[p.PacketID] = true
		}
		delete(e.open, p.PacketID)
	case p.Type == codec.PUBLISH && p.QoS == 2:
		n, _ := parse(p.Payload)
		if open, ok := e.open[p.PacketID]; ok && open == n {
			return // sent again as it may be
		}
		// With another identifier the broker took it twice from the publisher.
		if id, ok := e.ids[n]; ok && id == p.PacketID || e.left[p.PacketID] {
			e.anew(n)
		}
		delete(e.left, p.PacketID)
		e.open[p.PacketID], e.ids[n] = n, p.PacketID
	}
}
