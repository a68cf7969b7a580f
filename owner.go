package mqtt

import (
	"slices"
	"sync/atomic"
)

// owner is what the ledger and a message know of the subscription that has to
// finish with the message. It is part of the Subscription.
type owner struct {
	exchange    acknowledger    // the subscription
	filters     []Filter        // immutable
	names       map[string]bool // of the filters, when they are many; immutable
	joined      uint64          // its number among those that joined; guarded by routes.mu until it has one, then immutable
	placeholder bool            // it has no consumer and collects for a Subscribe to come, see detach.go and backlog.go; immutable
	usage       inboxUsage
}

// acknowledger is what a message asks its subscription: gen and id name the
// exchange that brought it.
type acknowledger interface {
	ack(gen generation, id uint16) error
	inboxKey(gen generation) (key uint64, earlier bool)
}

// setFilters makes filters those of o, which is new.
func (o *owner) setFilters(filters []Filter) {
	o.filters = filters
	if len(filters) <= fewFilters {
		return
	}
	o.names = make(map[string]bool, len(filters))
	for _, f := range filters {
		o.names[f.Pattern] = true
	}
}

// fewFilters are looked through faster than looked up.
const fewFilters = 8

// hasFilter reports whether filter is one of o, which is empty for the catch-all.
func (o *owner) hasFilter(filter string) bool {
	switch {
	case filter == "":
		return len(o.filters) == 0
	case o.names != nil:
		return o.names[filter]
	}
	return slices.ContainsFunc(o.filters, func(f Filter) bool { return f.Pattern == filter })
}

// name is the first filter, for events.
func (o *owner) name() string {
	switch {
	case o.isBacklog():
		return backlogName
	case len(o.filters) == 0:
		return "(catch-all)"
	}
	return o.filters[0].Pattern
}

// isBacklog reports whether o is the placeholder of the backlog.
func (o *owner) isBacklog() bool { return o.placeholder && len(o.filters) == 0 }

// backlogName is the filter that events name for it.
const backlogName = "(backlog)"

// inboxUsage counts what an owner has in the inbox. It is written under the lock of the
// book; a reader without it sees what was true a moment ago.
type inboxUsage struct {
	all     atomic.Int64 // messages that it has not finished with
	coming  amount       // of these, those that this process entered and that are not handed over
	unacked amount       // and those that were, under WithManualAck
}

// amount is a number of messages, and what they count for.
type amount struct{ n, bytes atomic.Int64 }

func (l *amount) add(n, bytes int) {
	l.n.Add(int64(n))
	l.bytes.Add(int64(bytes))
}

// within reports whether l is no more than that.
func (l *amount) within(messages, bytes int) bool {
	return l.n.Load() <= int64(messages) && l.bytes.Load() <= int64(bytes)
}

// owners are the subscriptions that have to finish with a message, nearly always
// one.
type owners struct {
	first *owner // nil when there is none
	more  []*owner
}

func (o *owners) none() bool { return o.first == nil }

func (o *owners) set(subs []*owner) {
	if len(subs) == 0 {
		return
	}
	o.first = subs[0]
	o.more = append(o.more, subs[1:]...)
}

// add puts s among them, unless it is there.
func (o *owners) add(s *owner) {
	switch {
	case o.none():
		o.first = s
	case !o.has(s):
		o.more = append(o.more, s)
	}
}

func (o *owners) has(s *owner) bool { return o.first == s || slices.Contains(o.more, s) }

// any reports whether f picks one of them.
func (o *owners) any(f func(*owner) bool) bool {
	return o.first != nil && f(o.first) || slices.ContainsFunc(o.more, f)
}

// all returns them.
func (o *owners) all() []*owner {
	if o.none() {
		return nil
	}
	return append([]*owner{o.first}, o.more...)
}

// application returns the first that is a subscription of the application, nil
// when there is none.
func (o *owners) application() *owner {
	if o.first == nil || !o.first.placeholder {
		return o.first
	}
	for _, s := range o.more {
		if !s.placeholder {
			return s
		}
	}
	return nil
}

// remove takes s out, and reports whether it was there.
func (o *owners) remove(s *owner) bool {
	if o.first == s {
		o.first = nil
		if n := len(o.more) - 1; n >= 0 {
			o.first = o.more[n]
			o.more = slices.Delete(o.more, n, n+1)
		}
		return true
	}
	at := slices.Index(o.more, s)
	if at >= 0 {
		o.more = slices.Delete(o.more, at, at+1)
	}
	return at >= 0
}

// replace puts to in the place of s, if that is there; to has to finish with the
// message once, also when both had it.
func (o *owners) replace(s, to *owner) {
	if o.has(to) {
		o.remove(s)
	} else if o.first == s {
		o.first = to
	} else if at := slices.Index(o.more, s); at >= 0 {
		o.more[at] = to
	}
}
