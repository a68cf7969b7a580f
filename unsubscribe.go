package mqtt

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/millrace/mqtt/codec"
)

// This file takes filters out of the routes, and sends the UNSUBSCRIBE packets that are due
// for them.

// pendingUnsubscribe is one UNSUBSCRIBE that awaits its answer, or several.
type pendingUnsubscribe struct {
	done chan struct{} // nil when no caller waits

	mu      sync.Mutex // guards the rest until done is closed; the innermost lock
	left    int        // packets unanswered
	results []SubscribeResult
	err     error
}

// wait waits for the answer to an UNSUBSCRIBE. A lost link is no error: the
// server is told on the next.
func (p *pendingUnsubscribe) wait(ctx context.Context) error {
	if p == nil {
		return nil
	}
	select {
	case <-p.done:
		if errors.Is(p.err, ErrLinkLost) {
			return nil
		}
		return p.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// answered notes the end of one packet.
func (p *pendingUnsubscribe) answered(results []SubscribeResult, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.results = append(p.results, results...)
	if err != nil {
		p.err = err
	}
	if p.left--; p.left <= 0 && p.done != nil {
		close(p.done)
	}
}

// unsubscribable returns a *PacketTooLargeError when the server of the current
// link cannot take the UNSUBSCRIBE of one of filters [MQTT-3.2.2-15].
func (t *routes) unsubscribable(filters []string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range filters {
		if err := t.tooLargeLocked(f); err != nil {
			return err
		}
	}
	return nil
}

// tooLargeLocked returns why an UNSUBSCRIBE of filter alone does not fit the current
// link, nil when it does or there is none.
func (t *routes) tooLargeLocked(filter string) error {
	if t.limits == nil {
		return nil
	}
	n := 2 + 2 + len(filter)
	if t.limits.version == V5 {
		n++ // property length
	}
	if n += 1 + codec.VarintSize(n); n > t.limits.maximumPacket {
		return &PacketTooLargeError{Size: n, Max: t.limits.maximumPacket}
	}
	return nil
}

// remove takes s out of its routes; filters that no subscription has any more are
// unsubscribed. It returns what to wait for, nil for nothing.
func (t *routes) remove(s *Subscription) *pendingUnsubscribe {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.catchAll == s {
		t.catchAll, s.left = nil, t.joins
	}
	if !s.routed {
		return nil
	}
	s.routed = false
	var gone []string
	for _, f := range s.filters {
		if r := t.filters[f.Pattern]; r != nil && t.leaveLocked(s, r) {
			gone = append(gone, f.Pattern)
		}
	}
	t.changedLocked()
	return t.unsubscribeLocked(gone)
}

// removeFilters takes filters from all subscriptions that have them, and returns the
// subscriptions that waited for nothing else, and those that have none left.
func (t *routes) removeFilters(filters []string) (p *pendingUnsubscribe, settled, ended []*Subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range filters {
		r := t.filters[f]
		if r == nil {
			continue
		}
		for _, m := range slices.Clone(r.members) {
			t.leaveLocked(m.sub, r)
			last := m.sub.awaitsLocked(f) && m.sub.setResultLocked(f, codec.UnspecifiedError, ErrUnsubscribed)
			switch {
			case !t.hasRouteLocked(m.sub):
				m.sub.routed = false
				ended = append(ended, m.sub)
			case last:
				settled = append(settled, m.sub)
			}
		}
	}
	t.changedLocked()
	if t.hasInbox() {
		t.giveUpFilters(filters, t.gen.Load(), t.joins)
	}
	return t.unsubscribeLocked(filters), settled, ended
}

// unsubscribeLocked sends UNSUBSCRIBE for filters, or leaves it for the next link.
func (t *routes) unsubscribeLocked(filters []string) *pendingUnsubscribe {
	if len(filters) == 0 {
		return nil
	}
	t.tickets++
	for _, f := range filters {
		if t.removed == nil {
			t.removed = map[string]uint64{}
		}
		t.removed[f] = t.tickets
		delete(t.misremoved, f)
	}
	t.backlog.unwantLocked(filters)
	if t.limits == nil {
		return nil
	}
	packets := t.unsubscribePacketsLocked(filters, t.out.probesLink())
	if len(packets) == 0 {
		return nil // too large for this server; another may take them
	}
	p := &pendingUnsubscribe{done: make(chan struct{}), left: len(packets)}
	for _, packet := range packets {
		if !t.out.control(t.unsubscribePacketLocked(packet, p)) {
			return nil // the link is going: the next one sends them
		}
	}
	return p
}

// unsubscribePacketsLocked divides filters as packetsLocked does, and leaves out those too
// large for this server: subscribed at one that takes larger packets, they wait in removed.
func (t *routes) unsubscribePacketsLocked(filters []string, alone bool) (all [][]string) {
	filters = slices.DeleteFunc(slices.Clone(filters), func(f string) bool { return t.tooLargeLocked(f) != nil })
	from, size := 0, 0
	for i, f := range filters {
		n := filterSize(f)
		if i > from && (alone || i-from >= t.maxSubscribe || !t.fitsLocked(size+n) || t.misremoved[f]+t.misremoved[filters[from]] > 0) {
			all = append(all, filters[from:i])
			from, size = i, 0
		}
		size += n
	}
	if from < len(filters) {
		all = append(all, filters[from:])
	}
	return all
}

// unsubscribePacketLocked makes the UNSUBSCRIBE.
func (t *routes) unsubscribePacketLocked(filters []string, p *pendingUnsubscribe) *control {
	v := t.limits.version
	wished := make([]uint64, len(filters))
	for i, f := range filters {
		wished[i] = t.removed[f]
	}
	c := &control{
		packet: codec.UNSUBSCRIBE,
		encode: func(dst []byte, v Version, id uint16) []byte {
			b, err := codec.AppendUnsubscribe(dst, v, &codec.Unsubscribe{PacketID: id, Filters: filters})
			if err != nil {
				panic("mqtt: UNSUBSCRIBE of checked filters: " + err.Error())
			}
			return b
		},
		answered: func(_ uint32, codes []codec.ReasonCode, a *answer) error {
			t.mu.Lock()
			err := t.unsubscribedLocked(v, filters, wished, codes, a, p)
			t.mu.Unlock()
			if err != nil {
				t.misansweredRemoval(filters, wished, err)
			}
			return err
		},
		wrong:   func(cause error) { t.misansweredRemoval(filters, wished, cause) },
		dropped: func() { p.answered(nil, ErrLinkLost) },
	}
	if len(filters) == 1 {
		c.filter = filters[0]
	}
	return c
}

// unsubscribedLocked takes an UNSUBACK from a link of version v. It does not answer an
// UNSUBSCRIBE of the same filter that was asked for later: the filter may have been
// subscribed in between.
func (t *routes) unsubscribedLocked(v Version, filters []string, wished []uint64, codes []codec.ReasonCode, a *answer, p *pendingUnsubscribe) error {
	if v == V5 && len(codes) != len(filters) {
		err := &ProtocolError{Code: codec.ProtocolError, Detail: "UNSUBACK has another number of reason codes than UNSUBSCRIBE had filters [MQTT-3.11.3-1]", Err: ErrWrongAck}
		p.answered(nil, err)
		return err
	}
	var results []SubscribeResult
	var refused error
	for i, f := range filters {
		r := SubscribeResult{Filter: f}
		if v == V5 {
			if r.Code = codes[i]; r.Code.IsError() {
				r.Err = refusal(codec.UNSUBACK, v, r.Code, a)
				refused = r.Err
			}
		}
		results = append(results, r)
		if t.removed[f] == wished[i] {
			delete(t.removed, f)
			delete(t.misremoved, f)
		}
	}
	p.answered(results, refused)
	t.wakeDrainsLocked()
	return nil
}

// giveUpUnsubscribe leaves filter at the server. Messages that still come for it
// match nothing: they are acknowledged and counted, and not held for a Subscribe.
func (t *routes) giveUpUnsubscribe(filter string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, open := t.removed[filter]; !open {
		return // subscribed again since
	}
	delete(t.removed, filter)
	t.leaveBehindLocked(filter)
	t.refuseDrainLocked(filter, err)
}

// misansweredRemoval is misansweredFilters for an UNSUBSCRIBE. A filter that is given up stays
// subscribed at the server; messages for it are acknowledged and counted.
func (t *routes) misansweredRemoval(filters []string, wished []uint64, cause error) {
	t.mu.Lock()
	gaveUp := t.countRemovalsLocked(filters, wished)
	t.mu.Unlock()
	for _, f := range gaveUp {
		t.upstream.info("unsubscribing given up", "filter", f, "error", cause)
	}
}

// countRemovalsLocked counts, for each of the filters, the link that ends, and returns the
// filters that are given up.
func (t *routes) countRemovalsLocked(filters []string, wished []uint64) (gaveUp []string) {
	for i, f := range filters {
		if t.removed[f] != wished[i] {
			continue // wished anew, or subscribed again
		}
		if t.misremoved == nil {
			t.misremoved = map[string]uint8{}
		}
		if t.misremoved[f]++; t.misremoved[f] >= misanswerLimit {
			delete(t.removed, f)
			delete(t.misremoved, f)
			t.leaveBehindLocked(f)
			t.refuseDrainLocked(f, misanswered(""))
			gaveUp = append(gaveUp, f)
		}
	}
	return gaveUp
}

// leaveBehindLocked notes that the server may still have filter.
func (t *routes) leaveBehindLocked(filter string) {
	if t.leftBehind == nil {
		t.leftBehind = map[string]bool{}
	}
	t.leftBehind[filter] = true
}
