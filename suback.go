package mqtt

import (
	"cmp"
	"slices"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/internal/match"
)

// This file decides which SUBSCRIBE packets are due, now and on a new link, and takes what
// the server answers to them.

// pendingRoute is a route in a SUBSCRIBE that awaits its answer.
type pendingRoute struct {
	r      *route
	ticket uint64
}

// lostRoute is a filter that a subscription was refused when its Subscribe had returned.
type lostRoute struct {
	sub    *Subscription
	filter string
	err    error
	end    bool // the subscription ends with it
}

// sendSubscribesLocked sends SUBSCRIBEs for rs if there is a link: up to 8 filters a packet and,
// on MQTT 5, filters that overlap in packets of their own, since an identifier names a
// whole packet. A filter asked for again keeps its identifier: messages that carry it
// may wait at the server.
func (t *routes) sendSubscribesLocked(rs []*route) {
	for _, r := range rs {
		r.state = routeWanted
	}
	if t.limits == nil {
		return
	}
	for _, packet := range t.packetsLocked(rs, t.out.probesLink()) {
		t.out.control(t.subscribeLocked(packet))
	}
}

// packetsLocked divides rs into SUBSCRIBE packets, of one filter each when alone is
// set.
func (t *routes) packetsLocked(rs []*route, alone bool) [][]*route {
	var all [][]*route
	var cur []*route
	size := 0
	for _, r := range rs {
		n := filterSize(r.filter)
		if len(cur) > 0 && (alone || len(cur) >= t.maxSubscribe || !t.fitsLocked(size+n) || t.overlappingLocked(cur, r) || r.subID != cur[0].subID || r.misanswers+cur[0].misanswers > 0) {
			all = append(all, cur)
			cur, size = nil, 0
		}
		cur = append(cur, r)
		size += n
	}
	if len(cur) > 0 {
		all = append(all, cur)
	}
	return all
}

// filterSize is what a filter takes in a SUBSCRIBE.
func filterSize(filter string) int { return 2 + len(filter) + 1 }

// fitsLocked reports whether the server takes a packet with filters of that size; the
// subscription identifier may grow by a few bytes until it is sent.
func (t *routes) fitsLocked(filters int) bool {
	return t.packetSizeLocked(filters)+3 <= t.limits.maximumPacket
}

// packetSizeLocked is the size of a SUBSCRIBE, or a bound for that of an UNSUBSCRIBE,
// whose filters take so many bytes.
func (t *routes) packetSizeLocked(filters int) int {
	n := 2 + filters
	if t.limits.version == V5 {
		n++ // property length
		if !t.limits.noSubID {
			n += 1 + codec.VarintSize(int(t.lastID)+1)
		}
	}
	return 1 + codec.VarintSize(n) + n
}

func (t *routes) overlappingLocked(packet []*route, r *route) bool {
	if t.limits.version != V5 || t.limits.noSubID {
		return false
	}
	return slices.ContainsFunc(packet, func(o *route) bool { return match.Overlap(r.filter, o.filter) })
}

// subscribeLocked makes the SUBSCRIBE for one packet of routes.
func (t *routes) subscribeLocked(packet []*route) *control {
	v := t.limits.version
	p := codec.Subscribe{}
	asked := make([]pendingRoute, 0, len(packet))
	var id uint32
	if v == V5 && !t.limits.noSubID {
		if id = packet[0].subID; id == 0 {
			t.lastID = t.lastID%maxSubscriptionID + 1
			id = t.lastID
		}
		p.Props = &codec.Properties{SubscriptionIDs: []uint32{id}}
	}
	for _, r := range packet {
		t.tickets++
		r.ticket, r.state, r.subID = t.tickets, routeAsked, id
		p.Subscriptions = append(p.Subscriptions, r.wire(v))
		asked = append(asked, pendingRoute{r, r.ticket})
	}
	t.changedLocked()
	c := &control{
		packet: codec.SUBSCRIBE,
		encode: func(dst []byte, v Version, id uint16) []byte {
			p.PacketID = id
			b, err := codec.AppendSubscribe(dst, v, &p)
			if err != nil {
				// Filters were checked when they were given: nothing can fail here.
				panic("mqtt: SUBSCRIBE of checked filters: " + err.Error())
			}
			return b
		},
		answered: func(_ uint32, codes []codec.ReasonCode, a *answer) error {
			return t.answered(v, asked, codes, a)
		},
		wrong: func(cause error) { t.misansweredFilters(asked, cause) },
	}
	if len(packet) == 1 {
		c.filter = packet[0].filter
	}
	for _, r := range packet {
		r.ctl = c
	}
	return c
}

// wire returns the route's entry in a SUBSCRIBE.
func (r *route) wire(v Version) codec.Subscription {
	w := codec.Subscription{Filter: r.filter, QoS: byte(r.qos)}
	if v == V5 {
		w.NoLocal, w.RetainAsPublished, w.RetainHandling = r.noLocal, r.asPub, r.retain
		if r.replay && !r.retSet {
			w.RetainHandling = 1
		}
	}
	return w
}

// answered takes a SUBACK from a link of version v.
func (t *routes) answered(v Version, asked []pendingRoute, codes []codec.ReasonCode, a *answer) error {
	if len(codes) != len(asked) {
		err := &ProtocolError{Code: codec.ProtocolError, Detail: "SUBACK has another number of reason codes than SUBSCRIBE had filters [MQTT-3.8.4-6]", Err: ErrWrongAck}
		t.misansweredFilters(asked, err)
		return err
	}
	var lost []lostRoute
	var settled []*Subscription
	t.mu.Lock()
	for i, q := range asked {
		r := q.r
		if r.ticket != q.ticket || t.filters[r.filter] != r {
			continue // asked again since, or removed
		}
		var err error
		if codes[i].IsError() {
			err = refusal(codec.SUBACK, v, codes[i], a)
		} else {
			r.state, r.held, r.misanswers = routeGranted, true, 0
		}
		s, l := t.applyResultLocked(r, codes[i], err)
		settled, lost = append(settled, s...), append(lost, l...)
	}
	t.changedLocked()
	t.mu.Unlock()
	t.tell(settled, lost)
	return nil
}

// refusal is a reason code that refuses one filter, as an error.
func refusal(packet codec.Type, v Version, code codec.ReasonCode, a *answer) error {
	e := &ReasonError{Packet: packet, Version: v, Code: code}
	if a != nil {
		e.Reason, e.User, e.UserCut = a.reason, a.user, a.cut
	}
	return e
}

// applyResultLocked sets the result of r, and takes r away from the subscriptions that a
// refusal concerns. It returns the subscriptions whose last result it was, and what
// subscriptions lost whose Subscribe had returned before.
func (t *routes) applyResultLocked(r *route, code codec.ReasonCode, err error) (settled []*Subscription, lost []lostRoute) {
	concerned := r.members
	switch {
	case err != nil && r.newcomers:
		r.state = routeGranted // the older members' subscription stands
		concerned = r.fresh()
	case err == nil:
		if r.newcomers && QoS(code) == r.granted {
			concerned = r.fresh() // the older members have this result
		}
		r.granted = QoS(code)
	}
	for _, m := range slices.Clone(concerned) {
		if m.sub.setResultLocked(r.filter, code, err) {
			settled = append(settled, m.sub)
		}
		if err == nil {
			continue
		}
		t.leaveLocked(m.sub, r)
		if m.sub.settled || m.sub.opts.async { // else Subscribe tells
			lost = append(lost, lostRoute{m.sub, r.filter, err, m.sub.settled && (!m.sub.opts.partial || !t.hasRouteLocked(m.sub))})
		}
	}
	return settled, lost
}

// misansweredFilters counts a SUBSCRIBE that was answered wrongly. Its filters are asked
// for in packets of their own next; those for which misanswerLimit links in a row ended are
// given up.
func (t *routes) misansweredFilters(asked []pendingRoute, cause error) {
	var settled []*Subscription
	var lost []lostRoute
	t.mu.Lock()
	for _, q := range asked {
		r := q.r
		if r.ticket != q.ticket || t.filters[r.filter] != r {
			continue // asked again since, or removed
		}
		if r.misanswers++; r.misanswers < misanswerLimit {
			continue
		}
		r.misanswers = 0
		s, l := t.applyResultLocked(r, codec.UnspecifiedError, misanswered(": "+trimPrefix(cause)))
		settled, lost = append(settled, s...), append(lost, l...)
	}
	t.changedLocked()
	t.mu.Unlock()
	t.tell(settled, lost)
}

// giveUpSubscribe takes filter away from the subscriptions that its SUBSCRIBE is for,
// as a refusal by SUBACK does.
func (t *routes) giveUpSubscribe(filter string, err error) (settled []*Subscription, lost []lostRoute) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.filters[filter]
	if r == nil || r.ctl == nil || t.out.sentAt(r.ctl).IsZero() {
		return nil, nil // unsubscribed since, or to be asked for anew
	}
	settled, lost = t.applyResultLocked(r, codec.UnspecifiedError, err)
	t.changedLocked()
	return settled, lost
}

// upLocked decides what is due on a new link and appends it, in packets of one filter
// when the link probes; send appends a packet under outbound's lock. Filters that
// the server of this link cannot take are out of the routes then, and returned.
func (t *routes) upLocked(a *agreed, always, probe bool, send func(*control)) (settled []*Subscription, lost []lostRoute) {
	t.limits = a
	t.beginWaitsLocked(time.Now())
	if !a.sessionPresent {
		clear(t.removed)
		clear(t.leftBehind)
		t.wakeDrainsLocked()
	}
	var gone []string
	for f := range t.removed {
		gone = append(gone, f)
	}
	slices.Sort(gone)
	for _, packet := range t.unsubscribePacketsLocked(gone, probe) {
		send(t.unsubscribePacketLocked(packet, new(pendingUnsubscribe)))
	}
	due := t.dueLocked(a.sessionPresent, always || a.version == V31)
	due = slices.DeleteFunc(due, func(r *route) bool {
		err := t.carriesLocked(r.filter, r.noLocal, r.asPub, r.retSet)
		if err == nil {
			return false
		}
		r.newcomers = false
		s, l := t.applyResultLocked(r, codec.UnspecifiedError, err)
		settled, lost = append(settled, s...), append(lost, l...)
		t.changedLocked()
		return true
	})
	for _, packet := range t.packetsLocked(due, probe) {
		send(t.subscribeLocked(packet))
	}
	return settled, lost
}

// beginWaitsLocked starts the clock of the subscriptions that wait for their first
// answers: a link is up.
func (t *routes) beginWaitsLocked(now time.Time) {
	for _, r := range t.filters {
		for _, m := range r.members {
			m.sub.beginWaitLocked(now)
		}
	}
}

// dueLocked returns the routes to subscribe, in the order in which their filters were
// subscribed first: those that the server does not hold, or all.
func (t *routes) dueLocked(resumed, all bool) []*route {
	var due []*route
	for _, r := range t.filters {
		r.held = r.held && resumed
		if resumed && r.state == routeGranted && !all || r.allDraining() {
			continue
		}
		if !resumed || r.state == routeGranted {
			// The retained copies that come now are for all members, and none has
			// them for the first time.
			r.replay = r.replay || r.state == routeGranted || r.newcomers
			r.newcomers = false
		}
		if !resumed {
			r.subID = 0 // no message that carries it waits at the server
		}
		r.state = routeWanted
		due = append(due, r)
	}
	slices.SortFunc(due, func(a, b *route) int { return cmp.Compare(a.no, b.no) })
	return due
}

// down ends the link: what was asked and not answered is wanted again.
func (t *routes) down() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limits, t.backlog.link = nil, 0
	t.wakeDrainsLocked()
	for _, r := range t.filters {
		if r.state == routeAsked {
			r.state = routeWanted
		}
	}
	t.endWaitsLocked(time.Now())
	t.changedLocked()
}

// endWaitsLocked stops that clock, and adds up what it showed.
func (t *routes) endWaitsLocked(now time.Time) {
	for _, r := range t.filters {
		for _, m := range r.members {
			m.sub.endWaitLocked(now)
		}
	}
}

// oldestAsked returns the filter whose SUBSCRIBE has waited longest on this link, of
// those that no caller of Subscribe waits for, and for how long.
func (t *routes) oldestAsked(now time.Time) (filter string, waited time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.filters {
		if r.state != routeAsked {
			continue
		}
		if d := t.unansweredForLocked(r, now); d > waited &&
			slices.ContainsFunc(r.members, func(m member) bool { return m.sub.settled || m.sub.opts.async }) {
			filter, waited = r.filter, d
		}
	}
	return filter, waited
}

// unansweredForLocked returns how long ago the SUBSCRIBE of r was sent, 0 while it
// waits for its turn.
func (t *routes) unansweredForLocked(r *route, now time.Time) time.Duration {
	sent := t.out.sentAt(r.ctl)
	if sent.IsZero() {
		return 0
	}
	return now.Sub(sent)
}

// subscribeTimeLeft returns how much longer Subscribe may wait for s while a link is up: the
// limit less what it has waited on this link and on those before.
func (t *routes) subscribeTimeLeft(s *Subscription, limit time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return limit - s.waitedLocked(time.Now())
}

// subscribeError returns why s as a whole failed, nil when it did not. A filter that
// the application took from it meanwhile is missing, not refused.
func (t *routes) subscribeError(s *Subscription) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return s.refusalLocked(s.opts.partial)
}

// refusals is the error of a subscription that lost a filter.
func (t *routes) refusals(s *Subscription) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return s.errorLocked()
}

// markReady lets Subscribe return.
func (t *routes) markReady(s *Subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.settled = true
	select {
	case <-s.ready:
	default:
		close(s.ready)
	}
}
