package mqtt

import "slices"

// What waits in the inbox for somebody to come: for the subscription of a filter
// that a message came for, or for whoever matches. It is kept by topic, so that a
// change of the routes costs by the topics and not by the messages.

// waitKey is what messages have in common that wait together.
type waitKey struct {
	topic string
	wanted
}

// inboxWait are messages that wait together, in any order. Those among them that
// do not any more are taken out when somebody comes.
type inboxWait struct{ items []*inboxItem }

// await has it wait for all that it waits for.
func (in *inbox) await(it *inboxItem) {
	in.conn.ledger.mu.Lock()
	owed, loose := it.owed, it.loose
	in.conn.ledger.mu.Unlock()
	if !it.waiting {
		it.waiting = true
		in.held.Add(1)
	}
	for _, name := range owed {
		in.awaitKey(it, waitKey{it.topic, wanted{filter: name}})
	}
	if loose {
		in.awaitKey(it, waitKey{it.topic, wanted{anybody: true}})
	}
}

func (in *inbox) awaitKey(it *inboxItem, k waitKey) {
	w := in.waits[k]
	if w == nil {
		w = &inboxWait{}
		in.waits[k] = w
	}
	w.items = append(w.items, it)
}

// adopt gives what waits to those who have come: first to the filters that it came
// for, then to whoever matches. When the routes change meanwhile it ends, to begin
// again: a later message must not find somebody to go to whom an earlier one did
// not find.
func (in *inbox) adopt() {
	got := map[*Subscription][]*inboxItem{}
	defer func() {
		for s, items := range got {
			byKey(items)
			in.enqueue(s, slices.Compact(items)...)
		}
		in.tellParking()
	}()
	for _, anybody := range []bool{false, true} {
		for k, w := range in.waits {
			if k.anybody != anybody {
				continue
			}
			subs := in.conn.routes.takers(k)
			if in.conn.routes.gen.Load() != in.seen {
				return
			}
			if len(subs) == 0 {
				continue
			}
			rest, claimed := in.conn.ledger.claim(w.items, k.wanted, subs)
			if w.items = rest; len(rest) == 0 {
				delete(in.waits, k)
			}
			for i, items := range claimed {
				got[subs[i]] = append(got[subs[i]], items...)
				in.noLonger(items)
			}
		}
	}
}

// noLonger counts those of items that wait for nobody any more.
func (in *inbox) noLonger(items []*inboxItem) {
	in.conn.ledger.mu.Lock()
	defer in.conn.ledger.mu.Unlock()
	for _, it := range items {
		if it.waiting && !it.waits() {
			it.waiting = false
			in.held.Add(-1)
		}
	}
}

// loosen ends the grace of a restart for what earlier processes left.
func (in *inbox) loosen() {
	var loose []*inboxItem
	for k, w := range in.waits {
		if !k.anybody {
			loose = append(loose, in.conn.ledger.loosen(w.items)...)
			in.noLonger(w.items)
		}
	}
	for _, it := range loose {
		in.awaitKey(it, waitKey{it.topic, wanted{anybody: true}})
	}
}

// giveUp ends what waits for a filter that the application has unsubscribed.
func (in *inbox) giveUp(name string) {
	n := 0
	for k, w := range in.waits {
		if k.anybody || k.filter != name {
			continue
		}
		n += in.conn.ledger.forgo(w.items, name)
		in.noLonger(w.items)
		delete(in.waits, k)
	}
	if n > 0 {
		in.gaveUp += uint64(n)
		in.conn.emit(MessageDropped{Topic: name, Err: ErrUnsubscribed, Total: in.gaveUp}) // nobody else can tell
	}
}

// unpark begins to count anew what comes for nobody.
func (in *inbox) unpark() {
	fresh := newHolder(in.conn, nil, newSubOptions(nil))
	if old := in.conn.ledger.park(fresh); old != nil {
		old.end(nil, leaveAcked) // the reader may wait for it
	}
}

// tellParking has the reader look whether there is room for more that comes for nobody.
func (in *inbox) tellParking() { in.conn.ledger.parking().tellRoom() }

// takers returns who is here for what waits.
func (t *routes) takers(k waitKey) (subs []*Subscription) {
	if k.anybody {
		return t.whoever(k.topic)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if k.filter == "" && t.catch != nil {
		return []*Subscription{t.catch}
	}
	if r := t.filters[k.filter]; r != nil {
		for _, m := range r.members {
			if !m.sub.holder {
				subs = append(subs, m.sub)
			}
		}
	}
	return subs
}

// whoever returns the subscriptions that match a topic, else the catch-all.
func (t *routes) whoever(topic string) (subs []*Subscription) {
	targets, _, _ := t.match(topic, nil)
	for i := range targets {
		if targets[i].single && !targets[i].sub.holder {
			subs = append(subs, targets[i].sub)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(subs) == 0 && t.catch != nil {
		subs = append(subs, t.catch)
	}
	return subs
}
