package mqtt

// topicTable remembers the topics of one link: their text, so that a message
// costs no allocation for it, and what they match, until the routes change. It
// is bounded, and belongs to the reader.
type topicTable struct {
	m    map[string]*topicEntry
	last *topicEntry
}

// topicEntry is one topic.
type topicEntry struct {
	topic   string
	targets []target
	subs    []*Subscription // distinct ones of targets, in their order
	gen     uint64          // of the routes that targets come from; 0 for never
}

// maxTopics is when the table is emptied and begins anew.
const maxTopics = 4096

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
	if t.m == nil || len(t.m) >= maxTopics {
		t.m = make(map[string]*topicEntry, 16)
	}
	e := &topicEntry{topic: string(name)}
	t.m[e.topic] = e
	t.last = e
	return e
}

// refresh matches e again when the routes have changed.
func (e *topicEntry) refresh(t *routes) {
	if e.gen == t.gen.Load() {
		return
	}
	clear(e.targets)
	clear(e.subs)
	e.targets, e.gen = t.match(e.topic, e.targets[:0])
	e.subs = e.subs[:0]
	for i := range e.targets {
		if e.targets[i].primary {
			e.subs = append(e.subs, e.targets[i].sub)
		}
	}
}
