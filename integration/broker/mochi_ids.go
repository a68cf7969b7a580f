package broker

import (
	"sync"

	"github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// ownIDs lets a client subscribe while messages for it are in flight. mochi 2.7.9
// keeps the identifiers of both sides in one map and answers a SUBSCRIBE by 0x91,
// "in use", in 3.1.1 too, when it has a message of its own in flight with the
// same one, though the two have nothing to do with each other (section 2.2.1).
// A client that begins anew on a session with a backlog meets that.
type ownIDs struct {
	mqtt.HookBase
	mu    sync.Mutex
	given map[*mqtt.Client]uint16 // guarded by mu; of a SUBSCRIBE that mochi is answering
}

// ID implements mqtt.Hook.
func (*ownIDs) ID() string { return "own identifiers" }

// Provides implements mqtt.Hook.
func (*ownIDs) Provides(b byte) bool { return b == mqtt.OnSubscribe || b == mqtt.OnPacketEncode }

// OnSubscribe implements mqtt.Hook. mochi works with 0 instead of the identifier,
// which is never in flight.
func (h *ownIDs) OnSubscribe(cl *mqtt.Client, p packets.Packet) packets.Packet {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.given[cl], p.PacketID = p.PacketID, 0
	return p
}

// OnPacketEncode implements mqtt.Hook. mochi answers a link's packets one after
// the other, so a SUBACK is for the latest SUBSCRIBE.
func (h *ownIDs) OnPacketEncode(cl *mqtt.Client, p packets.Packet) packets.Packet {
	if p.FixedHeader.Type != packets.Suback {
		return p
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	p.PacketID = h.given[cl]
	delete(h.given, cl)
	return p
}
