package mqtt

import "slices"

// owner is what the ledger and a message know of the subscription that has to
// finish with the message. It is part of the Subscription.
type owner struct {
	exchange acknowledger    // the subscription
	filters  []Filter        // immutable
	names    map[string]bool // of the filters, when they are many; immutable
	joined   uint64          // its number among those that joined; guarded by routes.mu until it has one, then immutable
	holder   bool            // nobody's: it collects for a Subscribe to come, see detach.go and backlog.go; immutable
	share    inboxShare
}

// acknowledger is what a message asks its subscription: gen and id name the
// exchange that brought it.
type acknowledger interface {
	ack(gen uint32, id uint16) error
	inboxKey(gen uint32) (key uint64, earlier bool)
}

// fewFilters are looked through faster than looked up.
const fewFilters = 8

// setFilters makes filters those of o, which is new.
func (o *owner) setFilters(filters []Filter) {
	o.filters = filters
	if len(filters) <= fewFilters {
		return
	}
	o.names = make(map[string]bool, len(filters))
	for _, f := range filters {
		o.names[f.Filter] = true
	}
}

// hasFilter reports whether filter is one of o, which is empty for the catch-all.
func (o *owner) hasFilter(filter string) bool {
	switch {
	case filter == "":
		return len(o.filters) == 0
	case o.names != nil:
		return o.names[filter]
	}
	return slices.ContainsFunc(o.filters, func(f Filter) bool { return f.Filter == filter })
}

// name is the first filter, for events.
func (o *owner) name() string {
	switch {
	case o.isBacklog():
		return backlogName
	case len(o.filters) == 0:
		return "(catch-all)"
	}
	return o.filters[0].Filter
}
