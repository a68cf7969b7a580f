package mqtt

import (
	"hash/maphash"
	"unsafe"
)

// topicTable remembers the topics of a session: their text, so that a message costs no
// allocation for it, and what they match, until the routes change. It is bounded in bytes:
// at the bound a topic that no message has named lately gives way to a new one. It belongs
// to the reader of the link that is up.
type topicTable struct {
	seed  maphash.Seed
	m     map[string]*topicEntry
	ring  []*topicEntry // all entries
	hand  int           // where in the ring the next one to give way is looked for
	last  *topicEntry
	bytes int // what the entries count for
}

// topicEntry is one topic.
type topicEntry struct {
	*matches
	topic string
	hash  uint64       // its part of what the ledger recognises a message by
	names *filterNames // for the durable inbox, made when it is asked for
	used  bool         // since the hand passed it
}

// filterNames are the filters by which a message came for one subscription, until the
// routes change.
type filterNames struct {
	of    *Subscription
	names []string
}

const (
	// topicBytes is what the entries of a table count for at most.
	topicBytes = 16 << 20
	// entryBytes is what an entry counts for beside its topic: the entry, and its places
	// in map and ring, both of which grow by doubling.
	entryBytes = int(unsafe.Sizeof(topicEntry{})) + 72
)

// get returns the entry of name, nil when it is new and therefore unchecked.
func (t *topicTable) get(name []byte) *topicEntry {
	if t.last != nil && t.last.topic == string(name) {
		return t.last
	}
	e := t.m[string(name)]
	if e != nil {
		e.used = true
		t.last = e
	}
	return e
}

// put makes an entry for name, which was checked.
func (t *topicTable) put(name []byte) *topicEntry {
	if t.m == nil {
		t.m = make(map[string]*topicEntry, 16)
	}
	e := &topicEntry{topic: string(name), hash: maphash.Bytes(t.seed, name), matches: noMatches}
	for t.bytes += e.size(); t.bytes > topicBytes && len(t.ring) > 0; {
		t.giveWay()
	}
	t.m[e.topic] = e
	t.ring = append(t.ring, e)
	t.last = e
	return e
}

// giveWay looks at one entry, and removes it when it was not used lately.
func (t *topicTable) giveWay() {
	if t.hand >= len(t.ring) {
		t.hand = 0
	}
	e := t.ring[t.hand]
	if e.used {
		e.used = false
		t.hand++
		return
	}
	last := len(t.ring) - 1
	t.ring[t.hand], t.ring[last] = t.ring[last], nil
	t.ring = t.ring[:last]
	delete(t.m, e.topic)
	t.bytes -= e.size()
}

// size is what e counts for.
func (e *topicEntry) size() int { return entryBytes + len(e.topic) + e.matches.size() }

// refresh matches e again when the routes have changed. The generation is read
// without the lock: a subscription that is gone by then takes nothing more, see
// Subscription.deliver, and what arrives later is later than the change.
func (t *topicTable) refresh(e *topicEntry, routes *routes) {
	if e.gen == routes.gen.Load() {
		return
	}
	old := e.matches
	e.names = nil
	e.matches = routes.match(e.topic)
	e.markLate(old.targets)
	t.bytes += e.matches.size() - old.size()
}
