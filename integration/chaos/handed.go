package chaos

import (
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/integration/tape"
)

// handed is what the broker sent a subscriber, by its tapes.
type handed struct {
	sent  [][len(lanes)][]int // by link: the numbers in order, resends too
	begun map[message]int     // how many exchanges of a message it began
	acked map[message]bool    // the subscriber sent PUBACK or PUBREC

	open map[uint16]message // by identifier: the latest that is not over
}

func newHanded() *handed {
	return &handed{begun: map[message]int{}, acked: map[message]bool{}, open: map[uint16]message{}}
}

// link begins the next link.
func (h *handed) link() { h.sent = append(h.sent, [len(lanes)][]int{}) }

func (h *handed) see(p packet) {
	m, known := h.open[p.id]
	switch {
	case p.down && p.kind == codec.PUBLISH:
		if !known || m != p.m {
			h.begun[p.m]++
		}
		h.open[p.id] = p.m
		if p.m.n != endMark {
			link := &h.sent[len(h.sent)-1]
			link[p.m.lane] = append(link[p.m.lane], p.m.n)
		}
	case p.down && p.kind == codec.PUBREL:
		delete(h.open, p.id) // what comes now is new [MQTT-4.3.3-12]
	case !p.down && known && (p.kind == codec.PUBACK || p.kind == codec.PUBREC):
		h.acked[m] = true
		if p.kind == codec.PUBACK {
			delete(h.open, p.id) // what comes now is new [MQTT-4.3.2-5]
		}
	}
}

// onLast returns what was sent on a lane of the last link, which nothing cut.
func (h *handed) onLast(lane int) map[int]bool {
	last := map[int]bool{}
	if len(h.sent) > 0 {
		for _, n := range h.sent[len(h.sent)-1][lane] {
			last[n] = true
		}
	}
	return last
}

// unlike counts where sights of a subscriber are not what and in which order the
// broker sent.
func (h *handed) unlike(lane int, sights []sight) int {
	var delivered []int
	had := map[int]bool{endMark: true}
	for _, s := range sights {
		if !had[s.n] {
			delivered = append(delivered, s.n)
		}
		had[s.n] = true
	}
	sent := make([][]int, len(h.sent))
	for i := range h.sent {
		sent[i] = h.sent[i][lane]
	}
	explained, missed := tape.Follow(sent, delivered)
	return len(delivered) - explained + missed
}
