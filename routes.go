package mqtt

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/mqtt/codec"
)

// routes are the filters that the Conn is subscribed to, or wants to be. It
// owns the trie and decides which SUBSCRIBE and UNSUBSCRIBE packets are due.
//
// Packets are appended while mu is held, so that the order on the wire is the
// order in which the wishes changed: what the server ends with is what stands
// here. Lock order: routes, then outbound.
type routes struct {
	conn *Conn
	gen  atomic.Uint64 // changes whenever a match may come out differently

	mu      sync.Mutex
	trie    router[*route]
	filters map[string]*route
	removed map[string]struct{} // to be unsubscribed: not yet sent, or not yet answered
	lastID  uint32              // subscription identifier given last
	tickets uint64
	catch   *Subscription // takes what matches nothing
	limits  *agreed       // of the current link; nil while offline
}

// routeState is what the server knows of a route.
type routeState uint8

const (
	routeWanted  routeState = iota // not sent on this link
	routeAsked                     // SUBSCRIBE sent, no answer yet
	routeGranted                   // granted in this session
)

// route is one filter at the server, shared by the subscriptions that have it.
type route struct {
	filter  string
	qos     QoS // the highest of its members
	noLocal bool
	asPub   bool
	retain  byte
	retSet  bool

	state    routeState
	asked    time.Time // when the last SUBSCRIBE left
	ticket   uint64    // of the last SUBSCRIBE: only its answer counts
	granted  QoS
	subID    uint32 // MQTT 5, 0 for none
	replay   bool   // asked again after the server had lost it
	members  []*Subscription
	fresh    []*Subscription // newcomers, who alone take the retained copies
	detached *time.Timer     // waits for a new Subscribe
}

// target is one way a topic reaches a subscription.
type target struct {
	sub     *Subscription
	subID   uint32
	granted QoS
	primary bool // the route whose copies the subscription takes when several match
	asPub   bool
	fresh   bool // takes retained copies, when others must not
	others  bool // some member is fresh
	replay  bool
}

func newRoutes(c *Conn) *routes {
	return &routes{conn: c, filters: map[string]*route{}, removed: map[string]struct{}{}}
}

// changed makes every cached match void. mu is held.
func (t *routes) changed() { t.gen.Add(1) }

// match appends the targets of topic and returns the generation that they are of.
func (t *routes) match(topic string, dst []target) ([]target, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	gen := t.gen.Load()
	var few [8]*route
	for _, r := range t.trie.match(topic, few[:0]) {
		for _, s := range r.members {
			dst = append(dst, target{sub: s, subID: r.subID, granted: r.granted, asPub: r.asPub,
				fresh: slices.Contains(r.fresh, s), others: len(r.fresh) > 0, replay: r.replay})
		}
	}
	markPrimaries(dst)
	return dst, gen
}

// markPrimaries marks, for each subscription, the target with the highest
// granted QoS: the one whose copy it takes when the server sends one for each.
func markPrimaries(ts []target) {
	for i := range ts {
		best := i
		for j := range ts {
			if ts[j].sub == ts[i].sub && (ts[j].granted > ts[best].granted || ts[j].granted == ts[best].granted && j < best) {
				best = j
			}
		}
		ts[best].primary = true
	}
}

// add puts s into the routes of its filters and asks the server for them.
func (t *routes) add(s *Subscription) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.admissible(s); err != nil {
		return err
	}
	s.routed = true
	due := make([]*route, 0, len(s.filters))
	for _, f := range s.filters {
		due = append(due, t.join(s, f))
	}
	t.changed()
	t.ask(due)
	return nil
}

// admissible returns why s cannot be added. mu is held.
func (t *routes) admissible(s *Subscription) error {
	seen := map[string]bool{}
	for _, f := range s.filters {
		if seen[f.Filter] {
			return invalid("filter", f.Filter, "is given twice")
		}
		seen[f.Filter] = true
		if err := t.limits.carriesFilter(f.Filter, &s.opts); err != nil {
			return err
		}
		r := t.filters[f.Filter]
		if r == nil || len(r.members) == 0 {
			continue
		}
		if isShared(f.Filter) {
			return invalid("filter", f.Filter, "is a shared subscription of this connection already; let both readers use its channel")
		}
		if r.noLocal != s.opts.noLocal || r.asPub != s.opts.asPub {
			return ErrSubscriptionConflict
		}
	}
	return nil
}

// carriesFilter returns why the server cannot take filter. A nil a is offline.
func (a *agreed) carriesFilter(filter string, o *subOptions) error {
	if a == nil {
		return nil
	}
	if a.version != V5 {
		if o.noLocal || o.asPub || o.retainSet {
			return &VersionError{Feature: "a subscription option of MQTT 5", Version: a.version}
		}
		return nil
	}
	_, rest := splitShared(filter)
	switch {
	case a.noWildcard && hasWildcard(rest):
		return &VersionError{Feature: "subscribing with wildcards", Version: a.version}
	case a.noShared && isShared(filter):
		return &VersionError{Feature: "a shared subscription", Version: a.version}
	}
	return nil
}

func hasWildcard(filter string) bool {
	for i := range len(filter) {
		if filter[i] == '+' || filter[i] == '#' {
			return true
		}
	}
	return false
}

// join makes s a member of the route of f. mu is held.
func (t *routes) join(s *Subscription, f Filter) *route {
	r := t.filters[f.Filter]
	if r == nil {
		r = &route{filter: f.Filter, noLocal: s.opts.noLocal, asPub: s.opts.asPub, retain: s.opts.retain, retSet: s.opts.retainSet}
		t.filters[f.Filter] = r
		t.trie.insert(f.Filter, r)
		delete(t.removed, f.Filter)
	}
	if r.detached != nil {
		r.detached.Stop()
		r.detached = nil
	}
	if len(r.members) > 0 {
		// The retained copies that this SUBSCRIBE brings are the newcomer's.
		if r.state != routeAsked {
			r.fresh = r.fresh[:0]
		}
		r.fresh = append(r.fresh, s)
		r.retain, r.retSet = s.opts.retain, s.opts.retainSet
	}
	r.members = append(r.members, s)
	r.qos = max(r.qos, f.QoS)
	return r
}

// asking is a route in a SUBSCRIBE under way.
type asking struct {
	r      *route
	ticket uint64
}

// ask sends SUBSCRIBEs for rs if there is a link: up to 8 filters a packet and,
// on MQTT 5, filters that overlap in packets of their own, since an identifier
// names a whole packet. mu is held.
func (t *routes) ask(rs []*route) {
	for _, r := range rs {
		r.state = routeWanted
	}
	if t.limits == nil {
		return
	}
	for _, packet := range t.packets(rs) {
		t.conn.out.control(t.subscribe(packet))
	}
}

// packets divides rs into SUBSCRIBE packets. mu is held.
func (t *routes) packets(rs []*route) [][]*route {
	var all [][]*route
	var cur []*route
	size := 0
	for _, r := range rs {
		n := len(r.filter) + 3
		if len(cur) > 0 && (len(cur) >= t.conn.cfg.maxSubscribe || size+n+24 > t.limits.maximumPacket || t.overlapping(cur, r)) {
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

func (t *routes) overlapping(packet []*route, r *route) bool {
	if t.limits.version != V5 || t.limits.noSubID {
		return false
	}
	_, mine := splitShared(r.filter)
	return slices.ContainsFunc(packet, func(o *route) bool {
		_, other := splitShared(o.filter)
		return overlaps(mine, other)
	})
}

// subscribe makes the SUBSCRIBE for one packet of routes. mu is held.
func (t *routes) subscribe(packet []*route) *control {
	p := codec.Subscribe{}
	asked := make([]asking, 0, len(packet))
	if t.limits.version == V5 && !t.limits.noSubID {
		t.lastID = t.lastID%268_435_455 + 1
		p.Props = &codec.Properties{SubscriptionIDs: []uint32{t.lastID}}
	}
	for _, r := range packet {
		t.tickets++
		r.ticket, r.state, r.subID = t.tickets, routeAsked, 0
		if p.Props != nil {
			r.subID = t.lastID
		}
		p.Subscriptions = append(p.Subscriptions, r.wire(t.limits.version))
		asked = append(asked, asking{r, r.ticket})
		now := time.Now()
		r.asked = now
		for _, s := range r.members {
			s.asked = now
		}
	}
	t.changed()
	return &control{
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
		answered: func(link uint32, codes []codec.ReasonCode, a *answer) error {
			return t.answered(asked, codes, a)
		},
	}
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

// answered takes a SUBACK.
func (t *routes) answered(asked []asking, codes []codec.ReasonCode, a *answer) error {
	if len(codes) != len(asked) {
		return &ProtocolError{Code: codec.ProtocolError, Detail: "SUBACK has another number of reason codes than SUBSCRIBE had filters [MQTT-3.8.4-6]"}
	}
	var lost []lostRoute
	var settled []*Subscription
	t.mu.Lock()
	for i, q := range asked {
		r := q.r
		if r.ticket != q.ticket || t.filters[r.filter] != r {
			continue // asked again since, or removed
		}
		err := t.refusal(codes[i], a)
		if err == nil {
			r.state, r.granted = routeGranted, QoS(codes[i])
		}
		settled = append(settled, t.note(r, codes[i], err)...)
		if err != nil {
			lost = append(lost, t.refused(r, err)...)
		}
	}
	t.changed()
	t.mu.Unlock()
	for _, l := range lost {
		t.conn.events.emit(SubscriptionLost{Filter: l.filter, Err: l.err})
		if l.end {
			l.sub.end(l.err, false)
		}
	}
	for _, s := range settled {
		t.conn.subscribed(s)
	}
	return nil
}

func (t *routes) refusal(code codec.ReasonCode, a *answer) error {
	if !code.IsError() {
		return nil
	}
	v := V5
	if t.limits != nil {
		v = t.limits.version
	}
	e := &ReasonError{Packet: codec.SUBACK, Version: v, Code: code}
	if a != nil {
		e.Reason, e.User = a.reason, a.user
	}
	return e
}

// note records the result for the members that wait for it, and returns those
// whose last result it was. mu is held.
func (t *routes) note(r *route, code codec.ReasonCode, err error) []*Subscription {
	var settled []*Subscription
	for _, s := range r.members {
		for i := range s.results {
			res := &s.results[i]
			if res.Filter != r.filter {
				continue
			}
			res.Code, res.Err = code, err
			if err == nil {
				res.Granted = QoS(code)
			}
			if s.open[i] {
				s.open[i] = false
				if s.unanswered--; s.unanswered == 0 {
					settled = append(settled, s)
				}
			}
		}
	}
	return settled
}

// lostRoute is a filter that a subscription had and was refused.
type lostRoute struct {
	sub    *Subscription
	filter string
	err    error
	end    bool // it was the last filter of the subscription
}

// refused takes r away from the members that the refusal concerns: newcomers
// keep the others out of it. mu is held.
func (t *routes) refused(r *route, err error) []lostRoute {
	gone := r.members
	if len(r.fresh) > 0 && len(r.fresh) < len(r.members) {
		gone = slices.Clone(r.fresh)
		r.state = routeGranted // the older members' subscription stands
	} else {
		gone = slices.Clone(gone)
	}
	var lost []lostRoute
	for _, s := range gone {
		t.leave(s, r)
		if s.settled { // else Subscribe tells
			lost = append(lost, lostRoute{s, r.filter, err, !t.hasRoute(s)})
		}
	}
	return lost
}

// hasRoute reports whether any filter of s is still routed. mu is held.
func (t *routes) hasRoute(s *Subscription) bool {
	return slices.ContainsFunc(s.filters, func(f Filter) bool {
		r := t.filters[f.Filter]
		return r != nil && slices.Contains(r.members, s)
	})
}

// leave takes s out of r, and r out of the trie when it was the last. mu is held.
func (t *routes) leave(s *Subscription, r *route) (last bool) {
	at := slices.Index(r.members, s)
	if at < 0 {
		return false
	}
	r.members = slices.Delete(r.members, at, at+1)
	if i := slices.Index(r.fresh, s); i >= 0 {
		r.fresh = slices.Delete(r.fresh, i, i+1)
	}
	if len(r.members) > 0 {
		return false
	}
	t.drop(r)
	return true
}

func (t *routes) drop(r *route) {
	delete(t.filters, r.filter)
	t.trie.remove(r.filter, r)
	if r.detached != nil {
		r.detached.Stop()
	}
}

// remove takes s out of its routes; filters that nobody has any more are
// unsubscribed, in one packet. It returns what to wait for, nil for nothing.
func (t *routes) remove(s *Subscription) *pendingUnsubscribe {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !s.routed {
		return nil
	}
	s.routed = false
	var gone []string
	for _, f := range s.filters {
		if r := t.filters[f.Filter]; r != nil && t.leave(s, r) {
			gone = append(gone, f.Filter)
		}
	}
	t.changed()
	return t.unsubscribe(gone)
}

// pendingUnsubscribe is an UNSUBSCRIBE on its way.
type pendingUnsubscribe struct {
	done    chan struct{}
	results []SubscribeResult
	err     error
}

// unsubscribe sends UNSUBSCRIBE for filters, or leaves it for the next link. mu
// is held.
func (t *routes) unsubscribe(filters []string) *pendingUnsubscribe {
	if len(filters) == 0 {
		return nil
	}
	for _, f := range filters {
		t.removed[f] = struct{}{}
	}
	if t.limits == nil {
		return nil
	}
	p := &pendingUnsubscribe{done: make(chan struct{})}
	if !t.conn.out.control(t.unsubscribePacket(filters, p)) {
		return nil
	}
	return p
}

// unsubscribePacket makes the UNSUBSCRIBE. mu is held.
func (t *routes) unsubscribePacket(filters []string, p *pendingUnsubscribe) *control {
	return &control{
		packet: codec.UNSUBSCRIBE,
		encode: func(dst []byte, v Version, id uint16) []byte {
			b, err := codec.AppendUnsubscribe(dst, v, &codec.Unsubscribe{PacketID: id, Filters: filters})
			if err != nil {
				panic("mqtt: UNSUBSCRIBE of checked filters: " + err.Error())
			}
			return b
		},
		answered: func(link uint32, codes []codec.ReasonCode, a *answer) error {
			return t.unsubscribed(filters, codes, a, p)
		},
		dropped: func() {
			p.err = ErrLinkLost
			close(p.done)
		},
	}
}

// unsubscribed takes an UNSUBACK.
func (t *routes) unsubscribed(filters []string, codes []codec.ReasonCode, a *answer, p *pendingUnsubscribe) error {
	defer close(p.done)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.limits != nil && t.limits.version == V5 && len(codes) != len(filters) {
		p.err = &ProtocolError{Code: codec.ProtocolError, Detail: "UNSUBACK has another number of reason codes than UNSUBSCRIBE had filters"}
		return p.err
	}
	for i, f := range filters {
		r := SubscribeResult{Filter: f}
		if len(codes) > 0 {
			r.Code = codes[i]
			if r.Code.IsError() {
				e := &ReasonError{Packet: codec.UNSUBACK, Version: V5, Code: r.Code}
				if a != nil {
					e.Reason, e.User = a.reason, a.user
				}
				r.Err, p.err = e, e
			}
		}
		p.results = append(p.results, r)
		if t.filters[f] == nil {
			delete(t.removed, f)
		}
	}
	return nil
}

// up decides what is due on a new link and appends it; send appends a packet
// under outbound's lock. It reports whether any SUBSCRIBE is awaited.
func (t *routes) up(a *agreed, always bool, send func(*control)) (awaited bool) {
	t.limits = a
	resumed := a.sessionPresent
	var gone []string
	for f := range t.removed {
		gone = append(gone, f)
	}
	slices.Sort(gone)
	if !resumed {
		clear(t.removed)
	} else {
		for filters := range slices.Chunk(gone, t.conn.cfg.maxSubscribe) {
			send(t.unsubscribePacket(filters, &pendingUnsubscribe{done: make(chan struct{})}))
		}
	}
	due := t.due(resumed, always || a.version == V31)
	for _, packet := range t.packets(due) {
		send(t.subscribe(packet))
	}
	return len(due) > 0
}

// due returns the routes to subscribe, in a stable order: those that the server
// does not hold, or all.
func (t *routes) due(resumed, all bool) []*route {
	var due []*route
	for _, r := range t.filters {
		switch {
		case !resumed:
			r.replay = r.replay || r.state == routeGranted
		case r.state == routeGranted && !all:
			continue
		}
		r.state = routeWanted
		r.fresh = nil
		due = append(due, r)
	}
	slices.SortFunc(due, func(a, b *route) int { return int(int64(a.ticket) - int64(b.ticket)) })
	return due
}

// down ends the link: what was asked and not answered is wanted again.
func (t *routes) down() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limits = nil
	for _, r := range t.filters {
		if r.state == routeAsked {
			r.state = routeWanted
			for _, s := range r.members {
				s.asked = time.Time{}
			}
		}
	}
}

// waiting reports whether any SUBSCRIBE of the current link lacks its answer.
func (t *routes) waiting() (filter string, yes bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.filters {
		if r.state == routeAsked {
			return r.filter, true
		}
	}
	return "", false
}

// subscriptions returns every subscription, the catch-all too.
func (t *routes) subscriptions() []*Subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := map[*Subscription]bool{}
	var all []*Subscription
	for _, r := range t.filters {
		for _, s := range r.members {
			if !seen[s] {
				seen[s] = true
				all = append(all, s)
			}
		}
	}
	if t.catch != nil {
		all = append(all, t.catch)
	}
	return all
}
