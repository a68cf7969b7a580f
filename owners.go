package mqtt

import (
	"cmp"
	"math/bits"
	"slices"
)

// owners are the subscriptions that have to finish with a message, nearly always
// one.
type owners struct {
	only *owner    // nil when there is none, or many are used
	many *ownerSet // nil until there were several
}

// none reports whether there is none left.
func (o *owners) none() bool { return o.only == nil && (o.many == nil || o.many.left == 0) }

// set makes subs the owners of o, which has none.
func (o *owners) set(subs []*owner) {
	if len(subs) == 1 {
		o.only = subs[0]
		return
	}
	for _, s := range subs {
		o.add(s)
	}
}

// add puts s among them, unless it is there.
func (o *owners) add(s *owner) {
	if o.none() || o.only == s {
		o.only = s
		return
	}
	if o.many == nil {
		o.many = new(ownerSet)
	}
	if o.only != nil {
		o.many.clear()
		o.many.add(o.only)
		o.only = nil
	}
	o.many.add(s)
}

func (o *owners) has(s *owner) bool { return o.only == s || o.many != nil && o.many.has(s) }

// any reports whether f picks one of them.
func (o *owners) any(f func(*owner) bool) bool { return slices.ContainsFunc(o.all(), f) }

// all returns them, from the older to the newer.
func (o *owners) all() []*owner {
	switch {
	case o.only != nil:
		return []*owner{o.only}
	case o.none():
		return nil
	}
	return o.many.all()
}

// application returns the first that is a subscription of the application, nil
// when there is none.
func (o *owners) application() *owner {
	if o.only != nil && !o.only.placeholder {
		return o.only
	}
	for _, s := range o.all() {
		if !s.placeholder {
			return s
		}
	}
	return nil
}

// remove takes s out, and reports whether it was there.
func (o *owners) remove(s *owner) bool {
	if o.only == s {
		o.only = nil
		return true
	}
	return o.many != nil && o.many.remove(s)
}

// replace puts to in the place of s, if that is there; to has to finish with the
// message once, also when both had it.
func (o *owners) replace(s, to *owner) {
	if o.remove(s) {
		o.add(to)
	}
}

// reset removes all, and keeps the memory of a small set for the next.
func (o *owners) reset() {
	o.only = nil
	switch {
	case o.many == nil:
	case cap(o.many.list) > keepOwners:
		o.many = nil
	default:
		o.many.clear()
	}
}

// keepOwners is the largest set whose memory is kept: an ended entry waits for its reuse.
const keepOwners = 256

// ownerSet is a set of owners. The list is in the order in which they joined, so that one
// of thousands is found at once; one that is removed is marked and stays in it.
type ownerSet struct {
	list    []*owner
	removed []uint64 // a bit for each of list
	left    int      // how many are not removed
}

func (t *ownerSet) clear() {
	clear(t.list)
	t.list, t.removed, t.left = t.list[:0], t.removed[:0], 0
}

func (t *ownerSet) isRemoved(i int) bool { return t.removed[i/64]&(1<<(i%64)) != 0 }

// find returns where s is in the list, removed or not, or where it would be inserted.
func (t *ownerSet) find(s *owner) (i int, found bool) {
	i, _ = slices.BinarySearchFunc(t.list, s, func(a, b *owner) int { return cmp.Compare(a.joined, b.joined) })
	for ; i < len(t.list) && t.list[i].joined == s.joined; i++ { // placeholders have no number
		if t.list[i] == s {
			return i, true
		}
	}
	return i, false
}

func (t *ownerSet) has(s *owner) bool {
	i, found := t.find(s)
	return found && !t.isRemoved(i)
}

func (t *ownerSet) add(s *owner) {
	i, found := t.find(s)
	switch {
	case found && !t.isRemoved(i):
		return
	case found:
		t.removed[i/64] &^= 1 << (i % 64)
	default:
		t.insert(i, s)
	}
	t.left++
}

// insert puts s into the list at i, nearly always the end.
func (t *ownerSet) insert(i int, s *owner) {
	t.list = slices.Insert(t.list, i, s)
	if len(t.list) > 64*len(t.removed) {
		t.removed = append(t.removed, 0)
	}
	at, low := i/64, uint64(1)<<(i%64)-1
	for w := len(t.removed) - 1; w > at; w-- {
		t.removed[w] = t.removed[w]<<1 | t.removed[w-1]>>63
	}
	t.removed[at] = t.removed[at]&low | t.removed[at]&^low<<1
}

func (t *ownerSet) remove(s *owner) bool {
	i, found := t.find(s)
	if !found || t.isRemoved(i) {
		return false
	}
	t.removed[i/64] |= 1 << (i % 64)
	t.left--
	return true
}

// all returns those that are not removed.
func (t *ownerSet) all() []*owner {
	all := make([]*owner, 0, t.left)
	for w, removed := range t.removed {
		for in := ^removed; in != 0; in &= in - 1 {
			i := 64*w + bits.TrailingZeros64(in)
			if i >= len(t.list) {
				break
			}
			all = append(all, t.list[i])
		}
	}
	return all
}
