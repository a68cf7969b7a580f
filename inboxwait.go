package mqtt

import (
	"slices"

	"github.com/millrace/mqtt/internal/match"
)

// This file has the messages that wait in the inbox: for the next subscription of a filter
// that has a claim, or for any subscription that matches. A new subscription is compared
// once with the messages that wait, and a message that begins to wait once with the
// subscriptions that are there, so that neither costs anything where they do not match.

// waiting are the messages that wait, by what they wait for.
type waiting struct {
	claimed  map[string]itemSet // by filter
	anyMatch map[string]itemSet // by topic
	dirty    map[waitKey]bool   // keys whose messages a subscription may get now
}

type itemSet map[*inboxItem]struct{}

func newWaiting() waiting {
	return waiting{claimed: map[string]itemSet{}, anyMatch: map[string]itemSet{}, dirty: map[waitKey]bool{}}
}

// of returns the part of w that k belongs to.
func (w *waiting) of(k waitKey) map[string]itemSet {
	if k.anyMatch {
		return w.anyMatch
	}
	return w.claimed
}

// under returns what is listed under k.
func (w *waiting) under(k waitKey) (items []*inboxItem) {
	for it := range w.of(k)[k.name] {
		items = append(items, it)
	}
	return items
}

// atOnce is how many messages are dealt with under one lock of the book, which
// the reader needs.
const atOnce = 256

// index has it listed under what it waits for, and under nothing else.
func (in *inbox) index(it *inboxItem) {
	before := it.listed
	it.listed = in.book.waitKeys(it)
	for _, k := range before {
		if !slices.Contains(it.listed, k) {
			in.unlist(it, k)
		}
	}
	for _, k := range it.listed {
		if !slices.Contains(before, k) {
			in.list(it, k)
		}
	}
	switch {
	case len(before) == 0 && len(it.listed) > 0:
		in.storedOnly.Add(1)
	case len(before) > 0 && len(it.listed) == 0:
		in.storedOnly.Add(-1)
	}
}

func (in *inbox) list(it *inboxItem, k waitKey) {
	sets := in.waits.of(k)
	if sets[k.name] == nil {
		sets[k.name] = itemSet{}
	}
	sets[k.name][it] = struct{}{}
	in.waits.dirty[k] = true
}

func (in *inbox) unlist(it *inboxItem, k waitKey) {
	sets := in.waits.of(k)
	if delete(sets[k.name], it); len(sets[k.name]) == 0 {
		delete(sets, k.name)
		delete(in.waits.dirty, k)
	}
}

// markDirtyFor has what waits compared with s, which is new.
func (in *inbox) markDirtyFor(s *Subscription) {
	if len(s.filters) == 0 { // the catch-all
		in.markDirty(waitKey{name: ""})
		for topic := range in.waits.anyMatch {
			in.markDirty(waitKey{topic, true})
		}
	}
	for _, f := range s.filters {
		in.markDirty(waitKey{name: f.Pattern})
		_, filter := match.SplitShared(f.Pattern)
		if !match.HasWildcard(filter) {
			in.markDirty(waitKey{filter, true})
			continue
		}
		for topic := range in.waits.anyMatch {
			if match.Meet(filter, topic) {
				in.markDirty(waitKey{topic, true})
			}
		}
	}
}

func (in *inbox) markDirty(k waitKey) {
	if len(in.waits.of(k)[k.name]) > 0 {
		in.waits.dirty[k] = true
	}
}

// assignUnclaimed gives what waits to the subscriptions that are there: first by claims,
// then by any match.
func (in *inbox) assignUnclaimed() {
	got := map[*Subscription][]*inboxItem{}
	var all []*inboxItem
	for _, anyMatch := range []bool{false, true} {
		for k := range in.waits.dirty {
			if k.anyMatch != anyMatch {
				continue
			}
			delete(in.waits.dirty, k)
			takers := in.routes.takers(k)
			if len(takers) == 0 {
				continue
			}
			candidates := candidatesOf(takers)
			for some := range slices.Chunk(in.waits.under(k), atOnce) {
				for i, items := range in.book.assign(some, k, candidates) {
					got[takers[i].sub] = append(got[takers[i].sub], items...)
					all = append(all, items...)
					for _, it := range items {
						in.index(it)
					}
				}
			}
		}
	}
	for some := range slices.Chunk(all, atOnce) {
		in.book.expireClaims(some)
		for _, it := range some {
			in.index(it)
		}
	}
	for s, items := range got {
		byKey(items)
		in.enqueue(s, items...)
		in.deliverable = true
	}
	in.tellUnclaimed()
}

// openToAnyMatch ends the grace of a restart for what earlier processes left.
func (in *inbox) openToAnyMatch() {
	var all []*inboxItem
	for _, set := range in.waits.claimed {
		for it := range set {
			all = append(all, it)
		}
	}
	for some := range slices.Chunk(all, atOnce) {
		in.book.openToAnyMatch(some)
		for _, it := range some {
			in.index(it)
		}
	}
}

// endClaims ends what waits for a filter that the application has unsubscribed.
func (in *inbox) endClaims(f givenUpFilter) {
	n := 0
	for some := range slices.Chunk(in.waits.under(waitKey{name: f.filter}), atOnce) {
		n += in.book.giveUpFilter(some, f)
		for _, it := range some {
			in.index(it)
		}
	}
	if n > 0 {
		in.gaveUp += uint64(n)
		in.emit(MessageDropped{Topic: f.filter, Err: ErrUnsubscribed, Total: in.gaveUp}) // no subscription counts them
	}
}

// countUnclaimedAnew begins to count anew what has no owner.
func (in *inbox) countUnclaimedAnew() {
	fresh := newPlaceholder(in.up, nil, newSubOptions(nil))
	if old := in.book.countUnclaimedBy(&fresh.owner); old != nil {
		subscriptionOf(old).end(nil, leaveAcked) // the reader may wait for it
	}
}

// tellUnclaimed has the reader look whether there is room for more without an owner.
func (in *inbox) tellUnclaimed() { in.unclaimed().madeRoom() }

// unclaimed returns the placeholder that counts what has no owner.
func (in *inbox) unclaimed() *Subscription { return subscriptionOf(in.book.unclaimedCounter()) }

// candidatesOf returns takers as the book knows them.
func candidatesOf(takers []taker) []candidate {
	all := make([]candidate, len(takers))
	for i, t := range takers {
		all[i] = candidate{&t.sub.owner, t.filter}
	}
	return all
}
