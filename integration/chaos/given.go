package chaos

import "github.com/millrace/mqtt/codec"

// given is what the broker got from the publisher, by its tapes. The publisher's
// session lasts through all its links, so identifiers do too.
type given struct {
	read     map[message]bool // came
	taken    map[message]bool // acknowledged by the broker, which makes it the owner
	refused  map[message]bool // answered by a PUBACK or PUBREC of 0x80 or above
	renewed  map[message]bool // QoS 2, and published again as if it were new
	disorder [len(lanes)]int  // sent on a link after a later one

	open     map[uint16]message // by identifier: the latest
	ids      map[message]uint16 // the latest
	released map[message]bool   // PUBREL came
	highest  [len(lanes)]int    // on this link
	newest   [len(lanes)]int    // that came, on any link
	again    map[message]bool   // came once more, with its identifier
}

func newGiven() *given {
	return &given{
		read: map[message]bool{}, taken: map[message]bool{}, refused: map[message]bool{}, renewed: map[message]bool{},
		open: map[uint16]message{}, ids: map[message]uint16{}, released: map[message]bool{}, again: map[message]bool{},
	}
}

// link begins the next link.
func (g *given) link() { g.highest = [len(lanes)]int{} }

func (g *given) see(p packet) {
	m, known := g.open[p.id]
	switch {
	case !p.down && p.kind == codec.PUBLISH:
		g.publish(p)
	case !p.down && p.kind == codec.PUBREL && known:
		g.released[m] = true
	case !p.down || p.kind != codec.PUBACK && p.kind != codec.PUBREC || !known:
	case p.refused():
		// What was not sent before there is no cause to refuse but an identifier
		// that is not free.
		g.refused[m] = g.again[m] && !g.renewed[m]
	default:
		g.taken[m] = true
	}
}

func (g *given) publish(p packet) {
	m := p.m
	if lanes[m.lane] == 2 && g.read[m] && (g.ids[m] != p.id || g.released[m]) {
		g.renewed[m] = true // against [MQTT-4.3.3-1] or [MQTT-4.3.3-6]
	}
	g.again[m] = g.again[m] || g.read[m] && g.ids[m] == p.id
	first := !g.read[m]
	g.read[m], g.open[p.id], g.ids[m] = true, m, p.id
	if m.n == endMark {
		return
	}
	// Again it may come behind later ones of an earlier link, for the first time not.
	if m.n < g.highest[m.lane] || first && m.n < g.newest[m.lane] {
		g.disorder[m.lane]++
	}
	g.newest[m.lane] = max(g.newest[m.lane], m.n)
	g.highest[m.lane] = max(g.highest[m.lane], m.n)
}
