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
