package mqtt

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/internal/match"
)

// routes are the filters that the Conn is subscribed to, or wants to be. It
// owns the trie; suback.go decides which SUBSCRIBE packets are due, unsubscribe.go
// which UNSUBSCRIBE packets.
//
// Packets are appended while mu is held, so that the order on the wire is the
// order of the calls: what the server ends with is what stands here. Lock order: routes, subscription, ledger, outbound, events.
type routes struct {
	// Immutable once the Conn is wired.
	out      *outbound // takes SUBSCRIBE and UNSUBSCRIBE
	upstream *upstream // of the subscriptions that the routes make
	tell     func(settled []*Subscription, lost []lostRoute)
	// giveUpFilters ends what the durable inbox keeps for filters that the application
	// has unsubscribed, at that generation and after so many joins; nil without an inbox.
	giveUpFilters func(filters []string, gen, joins uint64)
	maxSubscribe  int           // filters of one SUBSCRIBE or UNSUBSCRIBE
	backlogGrace  time.Duration // how long what matches no subscription is held

	gen          atomic.Uint64 // changes whenever a match may come out differently
	firstID      uint32        // subscription identifiers of this Conn are above it; immutable
	keepsSession bool          // the server keeps the session over links

	mu            sync.Mutex
	trie          match.Trie[*route]
	filters       map[string]*route
	removed       map[string]uint64 // to be unsubscribed: not yet sent, or not yet answered; with the ticket of the request
	removedShrunk chan struct{}     // closed when removed may have shrunk, for Subscription.Drain; nil when none waits
	leftBehind    map[string]bool   // filters whose UNSUBSCRIBE was given up: the server may have them; nil while none was
	lastID        uint32            // subscription identifier given last
	tickets       uint64
	joins         uint64        // how many subscriptions joined so far
	routed        uint64        // how many filters were routed so far
	catchAll      *Subscription // takes what matches no filter
	backlog       backlog
	limits        *agreed // of the current link; nil while offline

	// misremoved counts the links that ended for a wrong answer to the UNSUBSCRIBE
	// of a filter; nil while there were none.
	misremoved map[string]uint8
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

	state   routeState
	ctl     *control // the last SUBSCRIBE
	ticket  uint64   // of the last SUBSCRIBE: only its answer counts
	no      uint64   // order in which the filters were subscribed first
	granted QoS
	held    bool   // granted in this session: also while it is asked for anew
	subID   uint32 // MQTT 5, 0 for none
	replay  bool   // asked again though the members have it already
	members []member

	misanswers uint8 // links in a row that ended for a wrong answer to its SUBSCRIBE

	// newcomers says that the last SUBSCRIBE is for the members marked fresh:
	// they alone take the retained copies that it brings.
	newcomers bool
}

// member is one subscription that has the route.
type member struct {
	sub   *Subscription
	qos   QoS
	fresh bool
}

// target is one way a topic reaches a subscription.
type target struct {
	sub       *Subscription
	filter    string
	subID     uint32
	granted   QoS  // and at most what the subscription asked for itself
	known     bool // the server has granted it, and sends for it
	asPub     bool
	fresh     bool // takes retained copies, when others must not
	others    bool // some member is fresh
	replay    bool
	forwarded bool // a placeholder that forwards to another target what is not in an inbox

	canonical bool // the one target of the subscription that counts when copies cannot be told apart
	takesCopy bool // the subscription takes the copy of this one
	late0     bool // it did so until the server granted another, whose first copy has not come: takes QoS 0
	late      bool // the same for QoS 1 and 2
}

func newRoutes(cfg *config) *routes {
	t := &routes{
		maxSubscribe: cfg.maxSubscribe, backlogGrace: cfg.backlogGrace, keepsSession: cfg.session > 0,
		filters: map[string]*route{},
	}
	if t.keepsSession {
		// What waits at the server carries the identifiers of an earlier process. All
		// of these take as many bytes.
		t.firstID = 1<<21 + rand.Uint32N(maxSubscriptionID/2)
		t.lastID = t.firstID
	}
	return t
}

// maxSubscriptionID is the largest subscription identifier (section 3.8.2.1.2).
const maxSubscriptionID = 268_435_455

// hasInbox reports whether there is a durable inbox.
func (t *routes) hasInbox() bool { return t.giveUpFilters != nil }

// changedLocked makes every cached match void.
func (t *routes) changedLocked() { t.gen.Add(1) }

// add puts s into the routes of its filters and asks the server for them.
func (t *routes) add(s *Subscription) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.admissibleLocked(s); err != nil {
		return err
	}
	s.routed = true
	if t.limits != nil {
		s.waiting = time.Now()
	}
	t.numberLocked(s)
	t.takeHeldLocked(s) // before anything newer can reach it
	due := make([]*route, 0, len(s.filters))
	for _, f := range s.filters {
		due = append(due, t.joinLocked(s, f))
	}
	t.changedLocked()
	t.sendSubscribesLocked(due)
	return nil
}

// admissibleLocked returns why s cannot be added.
func (t *routes) admissibleLocked(s *Subscription) error {
	seen := map[string]bool{}
	for _, f := range s.filters {
		if seen[f.Pattern] {
			return invalid("filter", f.Pattern, "is given twice")
		}
		seen[f.Pattern] = true
		if err := t.carriesLocked(f.Pattern, s.opts.noLocal, s.opts.asPub, s.opts.retainSet); err != nil {
			return err
		}
		r := t.filters[f.Pattern]
		if r == nil || !r.wanted() {
			continue
		}
		if match.IsShared(f.Pattern) {
			return invalid("filter", f.Pattern, "is a shared subscription of this connection already; let both readers use its channel")
		}
		if r.noLocal != s.opts.noLocal || r.asPub != s.opts.asPub {
			return ErrSubscriptionConflict
		}
	}
	return nil
}

// carriesLocked returns why the server of the current link cannot take filter with
// these options; offline that is not known.
func (t *routes) carriesLocked(filter string, noLocal, asPub, retainSet bool) error {
	a := t.limits
	if a == nil {
		return nil
	}
	if a.version != V5 {
		if noLocal || asPub || retainSet {
			return &VersionError{Feature: "a subscription option of MQTT 5", Version: a.version}
		}
		return nil
	}
	_, rest := match.SplitShared(filter)
	switch {
	case a.noWildcard && match.HasWildcard(rest):
		return &VersionError{Feature: "subscribing with wildcards", Version: a.version}
	case a.noShared && match.IsShared(filter):
		return &VersionError{Feature: "a shared subscription", Version: a.version}
	}
	if size := t.packetSizeLocked(filterSize(filter)); size > a.maximumPacket {
		return &PacketTooLargeError{Size: size, Max: a.maximumPacket}
	}
	return nil
}

// numberLocked gives s its number among those that joined.
func (t *routes) numberLocked(s *Subscription) {
	t.joins++
	s.joined = t.joins
}

// joinLocked makes s a member of the route of f.
func (t *routes) joinLocked(s *Subscription, f Filter) *route {
	t.takeOverLocked(f.Pattern)
	r := t.filters[f.Pattern]
	switch {
	case r == nil:
		t.routed++
		r = &route{filter: f.Pattern, no: t.routed}
		t.filters[f.Pattern] = r
		t.trie.Insert(f.Pattern, r)
		delete(t.removed, f.Pattern)
		delete(t.leftBehind, f.Pattern)
		fallthrough
	case !r.wanted():
		r.noLocal, r.asPub, r.newcomers = s.opts.noLocal, s.opts.asPub, false
	case r.state == routeGranted:
		// The retained copies that this SUBSCRIBE brings are the newcomer's.
		r.newcomers = true
		for i := range r.members {
			r.members[i].fresh = false
		}
	}
	r.retain, r.retSet, r.replay = s.opts.retain, s.opts.retainSet, false
	r.members = append(r.members, member{s, f.QoS, r.newcomers})
	r.qos = r.highest()
	return r
}

// wanted reports whether any subscription of the application has r, and is not being
// drained.
func (r *route) wanted() bool {
	return slices.ContainsFunc(r.members, func(m member) bool { return !m.sub.placeholder && !m.sub.draining })
}

// has reports whether s is a member of r.
func (r *route) has(s *Subscription) bool {
	return slices.ContainsFunc(r.members, func(m member) bool { return m.sub == s })
}

// highest returns the highest QoS of the members.
func (r *route) highest() (q QoS) {
	for _, m := range r.members {
		q = max(q, m.qos)
	}
	return q
}

// leaveLocked takes s out of r, and r out of the trie when it was the last.
func (t *routes) leaveLocked(s *Subscription, r *route) (last bool) {
	if !r.has(s) {
		return false
	}
	s.left = t.joins
	r.members = slices.DeleteFunc(r.members, func(m member) bool { return m.sub == s })
	if len(r.members) > 0 {
		r.qos = r.highest()
		return false
	}
	t.dropLocked(r)
	return true
}

func (t *routes) dropLocked(r *route) {
	delete(t.filters, r.filter)
	t.trie.Remove(r.filter, r)
}

// hasRouteLocked reports whether any filter of s is still routed.
func (t *routes) hasRouteLocked(s *Subscription) bool {
	return slices.ContainsFunc(s.filters, func(f Filter) bool {
		r := t.filters[f.Pattern]
		return r != nil && r.has(s)
	})
}

// leftAt returns how many had joined when s left.
func (t *routes) leftAt(s *Subscription) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return s.left
}

// match appends the targets of topic and returns the generation that they are
// of, and how many routes matched.
func (t *routes) match(topic string, dst []target) (targets []target, gen uint64, matched int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var few [8]*route
	all := t.trie.Match(topic, few[:0])
	for _, r := range all {
		for i := range r.members {
			m := &r.members[i]
			dst = append(dst, target{sub: m.sub, filter: r.filter, subID: r.subID, granted: min(m.qos, r.granted), known: r.held,
				asPub: r.asPub, fresh: m.fresh, others: r.newcomers, replay: r.replay})
		}
	}
	markForwarded(dst, topic)
	if !t.hasInbox() {
		dst = slices.DeleteFunc(dst, func(tg target) bool { return tg.forwarded })
	}
	markTargets(dst)
	return dst, t.gen.Load(), len(all)
}

// markForwarded marks the placeholders that would forward topic to another of the
// targets, which has it already: a placeholder of several filters loses one of them to a
// new subscription, and still matches by another. With a durable inbox a placeholder
// forwards nothing, and QoS 1 and 2 still wait there for the other filter.
func markForwarded(ts []target, topic string) {
	for i := range ts {
		h := ts[i].sub
		ts[i].forwarded = h.placeholder && slices.ContainsFunc(ts, takesOverFrom(h, topic))
	}
}

// takesOverFrom returns whether a target is the one that takes over a message on topic
// from sub, in the end.
func takesOverFrom(sub *Subscription, topic string) func(target) bool {
	last := sub.last(topic)
	return func(tg target) bool { return last != sub && tg.sub == last }
}

// markTargets marks, for each subscription, the target whose copy it takes when
// the server sends one for each filter: the granted one with the highest QoS, of what the
// subscription asked for itself, so that the choice does not change for others.
// While the server has granted none, it may send for any of them, so all count. A
// filter that is asked for anew still counts as granted, since the server goes on
// sending for it: else the copy of another filter would count, which may have been
// passed over before and is only a redelivery when it comes again on the next link.
func markTargets(ts []target) {
	for i := range ts {
		best := i
		for j := range ts {
			if ts[j].sub == ts[i].sub && ts[j].before(&ts[best], j < best) {
				best = j
			}
		}
		ts[best].canonical = true
		ts[i].takesCopy = i == best || !ts[best].known
	}
}

// before reports whether a subscription takes the copies of t rather than those of o.
func (t *target) before(o *target, first bool) bool {
	switch {
	case t.known != o.known:
		return t.known
	case t.granted != o.granted:
		return t.granted > o.granted
	}
	return first
}

// hasForeignID reports whether one of several identifiers was given by an earlier process,
// not by this Conn.
func (t *routes) hasForeignID(p *codec.PublishView) bool {
	if t.firstID == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range p.Props.SubscriptionIDs() {
		if id <= t.firstID || id > t.lastID {
			return true
		}
	}
	return false
}

// subscriptions returns every subscription, the catch-all and placeholders too.
func (t *routes) subscriptions() []*Subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := map[*Subscription]bool{}
	var all []*Subscription
	for _, r := range t.filters {
		for _, m := range r.members {
			if !seen[m.sub] {
				seen[m.sub] = true
				all = append(all, m.sub)
			}
		}
	}
	if t.catchAll != nil {
		all = append(all, t.catchAll)
	}
	if t.backlog.sub != nil {
		all = append(all, t.backlog.sub)
	}
	return all
}

func (t *routes) openCatchAll(o subOptions) *Subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.catchAll == nil {
		t.catchAll = newCatchAll(t.upstream, o)
		t.numberLocked(t.catchAll)
		if b := t.backlog.sub; b != nil {
			takeOver(t.catchAll, handover{b, everything})
		}
		t.changedLocked()
	}
	return t.catchAll
}

func newCatchAll(up *upstream, o subOptions) *Subscription {
	s := newSubscription(up, nil, o)
	s.settled = true
	close(s.ready)
	return s
}

// taker is a subscription that may take what waits in the inbox, and the filter by which
// it may.
type taker struct {
	sub    *Subscription
	filter string
}

// takers returns the subscriptions that may take what waits for k.
func (t *routes) takers(k waitKey) (takers []taker) {
	if k.anyMatch {
		return t.takersByTopic(k.name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if k.name == "" {
		return appendSynced(nil, t.catchAll, "")
	}
	if r := t.filters[k.name]; r != nil {
		for _, m := range r.members {
			takers = appendSynced(takers, m.sub, k.name)
		}
	}
	return takers
}

// takersByTopic returns the subscriptions that match a topic, else the catch-all.
func (t *routes) takersByTopic(topic string) (takers []taker) {
	targets, _, _ := t.match(topic, nil)
	for _, tg := range targets {
		if tg.canonical {
			takers = appendSynced(takers, tg.sub, tg.filter)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(takers) == 0 {
		takers = appendSynced(takers, t.catchAll, "")
	}
	return takers
}

// appendSynced appends s if the inbox hands out to it.
func appendSynced(takers []taker, s *Subscription, filter string) []taker {
	if s == nil || s.placeholder || !s.isSynced() {
		return takers
	}
	return append(takers, taker{s, filter})
}
