package mqtt

import (
	"cmp"
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
// order of the calls: the server ends with the filters that stand here. Lock order: routes,
// subscription, ledger, outbound, events.
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
	unmatched     *matches      // of topics without a filter
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

	// members are in the order in which they joined. A placeholder is the only one, and when
	// one is being drained all are: a subscription that joins takes over from those.
	members []member
	matches *matches // of topics that match no other filter

	misanswers uint8 // links in a row that ended for a wrong answer to its SUBSCRIBE

	// newcomers says that the last SUBSCRIBE is for the fresh members, which joined as the
	// numbers from freshFrom to freshTo: they alone take the retained copies that it brings.
	newcomers          bool
	freshFrom, freshTo uint64
}

// member is one subscription that has the route.
type member struct {
	sub *Subscription
	qos QoS
}

func newRoutes(cfg *config) *routes {
	t := &routes{
		maxSubscribe: cfg.maxSubscribe, backlogGrace: cfg.backlogGrace, keepsSession: cfg.session > 0,
		filters: map[string]*route{}, unmatched: noMatches,
	}
	if t.keepsSession {
		// Messages that wait at the server carry identifiers of an earlier process. All
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
		r = &route{filter: f.Pattern, no: t.routed, matches: noMatches}
		t.filters[f.Pattern] = r
		t.trie.Insert(f.Pattern, r)
		delete(t.removed, f.Pattern)
		delete(t.leftBehind, f.Pattern)
		fallthrough
	case !r.wanted():
		r.noLocal, r.asPub, r.newcomers = s.opts.noLocal, s.opts.asPub, false
	case r.state == routeGranted:
		// The retained copies that this SUBSCRIBE brings are the newcomer's.
		r.newcomers, r.freshFrom = true, s.joined
	}
	r.retain, r.retSet, r.replay = s.opts.retain, s.opts.retainSet, false
	if r.newcomers {
		r.freshTo = s.joined
	}
	if len(r.members) == 0 {
		r.qos = f.QoS
	}
	r.members, r.qos = append(r.members, member{s, f.QoS}), max(r.qos, f.QoS)
	return r
}

// wanted reports whether any subscription of the application has r, and is not being
// drained.
func (r *route) wanted() bool {
	return slices.ContainsFunc(r.members, func(m member) bool { return !m.sub.placeholder && !m.sub.draining })
}

// find returns where s is among the members, or would be.
func (r *route) find(s *Subscription) (i int, found bool) {
	i, _ = slices.BinarySearchFunc(r.members, s.joined, func(m member, joined uint64) int { return cmp.Compare(m.sub.joined, joined) })
	return i, i < len(r.members) && r.members[i].sub == s
}

// has reports whether s is a member of r.
func (r *route) has(s *Subscription) bool {
	_, found := r.find(s)
	return found
}

// fresh returns the members for which alone the last SUBSCRIBE was, if newcomers is set.
func (r *route) fresh() []member {
	i, _ := slices.BinarySearchFunc(r.members, r.freshFrom, func(m member, joined uint64) int { return cmp.Compare(m.sub.joined, joined) })
	return r.members[i:]
}

func (r *route) isFresh(s *Subscription) bool {
	return r.freshFrom > 0 && r.freshFrom <= s.joined && s.joined <= r.freshTo
}

// highest returns the highest QoS of the members, which is r.qos until one has left.
func (r *route) highest() (q QoS) {
	for _, m := range r.members {
		if q = max(q, m.qos); q == r.qos {
			break // no member has more
		}
	}
	return q
}

// leaveLocked takes s out of r, and r out of the trie when it was the last.
func (t *routes) leaveLocked(s *Subscription, r *route) (last bool) {
	at, found := r.find(s)
	if !found {
		return false
	}
	s.left = t.joins
	r.members = slices.Delete(r.members, at, at+1)
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

// match returns what topic matches.
func (t *routes) match(topic string) *matches {
	t.mu.Lock()
	defer t.mu.Unlock()
	var few [8]*route
	switch all := t.trie.Match(topic, few[:0]); {
	case len(all) == 0:
		if t.unmatched.gen != t.gen.Load() {
			t.unmatched = &matches{gen: t.gen.Load(), shared: true}
		}
		return t.unmatched
	case len(all) == 1 && !all[0].members[0].sub.placeholder:
		r := all[0]
		if r.matches.gen != t.gen.Load() {
			r.matches = t.matchesLocked(all, topic)
			r.matches.shared = true
		}
		return r.matches
	default:
		return t.matchesLocked(all, topic)
	}
}

// matchesLocked makes the targets of topic, which matches all.
func (t *routes) matchesLocked(all []*route, topic string) *matches {
	n := 0
	for _, r := range all {
		n += len(r.members)
	}
	ts := make([]target, 0, n)
	for _, r := range all {
		for i := range r.members {
			m := &r.members[i]
			ts = append(ts, target{sub: m.sub, filter: r.filter, subID: r.subID, granted: min(m.qos, r.granted), known: r.held,
				asPub: r.asPub, fresh: r.isFresh(m.sub), others: r.newcomers, replay: r.replay})
		}
	}
	markForwarded(ts, topic)
	if !t.hasInbox() {
		ts = slices.DeleteFunc(ts, func(tg target) bool { return tg.forwarded })
	}
	markTargets(ts, len(all))
	return &matches{targets: ts, routes: len(all), gen: t.gen.Load()}
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
	for i, tg := range t.match(topic).targets {
		if tg.canonical == i {
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
