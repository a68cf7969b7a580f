package mqtt

import (
	"hash/maphash"
	"slices"
)

// topicTable remembers the topics of a session: their text, so that a message costs no
// allocation for it, and what they match, until the routes change. It is bounded, and
// belongs to the reader of the link that is up.
type topicTable struct {
	seed  maphash.Seed
	m     map[string]*topicEntry
	last  *topicEntry
	bytes int // length of all names
}

// topicEntry is one topic.
type topicEntry struct {
	topic   string
	hash    uint64 // its part of what the ledger recognises a message by
	targets []target
	routes  int    // how many filters match
	gen     uint64 // of the routes that targets come from; 0 for never

	// For the durable inbox, made when it is asked for: the filters by which the
	// message came for one subscription, until the routes change.
	names   []string
	namesOf *Subscription
}

// maxTopics and maxTopicBytes are when the table is emptied and begins anew.
const (
	maxTopics     = 4096
	maxTopicBytes = 1 << 20
)

// get returns the entry of name, nil when it is new and therefore unchecked.
func (t *topicTable) get(name []byte) *topicEntry {
	if t.last != nil && t.last.topic == string(name) {
		return t.last
	}
	e := t.m[string(name)]
	if e != nil {
		t.last = e
	}
	return e
}

// put makes an entry for name, which was checked.
func (t *topicTable) put(name []byte) *topicEntry {
	if t.m == nil || len(t.m) >= maxTopics || t.bytes >= maxTopicBytes {
		t.m, t.bytes = make(map[string]*topicEntry, 16), 0
	}
	t.bytes += len(name)
	e := &topicEntry{topic: string(name), hash: maphash.Bytes(t.seed, name)}
	t.m[e.topic] = e
	t.last = e
	return e
}

// refresh matches e again when the routes have changed. The generation is read
// without the lock: a subscription that is gone by then takes nothing more, see
// Subscription.deliver, and what arrives later is later than the change.
func (e *topicEntry) refresh(t *routes) {
	if e.gen == t.gen.Load() {
		return
	}
	e.names, e.namesOf = nil, nil
	old := slices.Clone(e.targets)
	clear(e.targets)
	e.targets, e.gen, e.routes = t.match(e.topic, e.targets[:0])
	e.markLate(old)
}

// markLate marks the targets whose copies a subscription took until now and does no more.
// The server sends a message once for each filter; when the change fell between the copies
// of one message, the one that counts now was passed over, and the copy of the target
// before is the last one to come.
func (e *topicEntry) markLate(old []target) {
	type key struct {
		sub    *Subscription
		filter string
	}
	var before map[key]*target // made when one is looked up: few topics match several filters
	for i := range e.targets {
		n := &e.targets[i]
		if n.takesCopy {
			continue
		}
		if before == nil {
			before = make(map[key]*target, len(old))
			for j := range old {
				before[key{old[j].sub, old[j].filter}] = &old[j]
			}
		}
		if o := before[key{n.sub, n.filter}]; o != nil && o.subID == n.subID {
			n.late, n.lateQoS1 = o.takesCopy || o.late, o.takesCopy && o.known || o.lateQoS1
		}
	}
}

// endLate has a subscription take no more copies of its other targets: a copy with that
// QoS of the one at index at came, which counts now. A message of QoS 0 says nothing of
// those of QoS 1 and 2 before it, for which the server may have had no room in its window.
func (e *topicEntry) endLate(at int, qos byte) {
	for i := e.targets[at].next; i != at; i = e.targets[i].next {
		tg := &e.targets[i]
		tg.late, tg.lateQoS1 = false, tg.lateQoS1 && qos == 0
	}
}

// takesLate reports whether a copy with that QoS is taken all the same.
func (t *target) takesLate(qos byte) bool { return t.late || t.lateQoS1 && qos > 0 }
