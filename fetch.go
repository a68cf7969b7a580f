package mqtt

import (
	"errors"
	"slices"
	"time"

	"github.com/millrace/mqtt/store"
)

// This file brings payloads that are in the store alone back into memory.

// fetch has the payload of r, which is in the store alone, brought into memory.
func (o *outbound) fetch(r *record) {
	o.keep.next.loads = append(o.keep.next.loads, outFact{r: r, key: r.key})
	o.commitSoon()
}

// loadedPayload is a payload that was fetched.
type loadedPayload struct {
	outFact
	payload []byte
	err     error
}

// load fetches payloads.
func (k *keeper) load(facts []outFact) []loadedPayload {
	if len(facts) == 0 {
		return nil
	}
	keys := make([]store.Key, len(facts))
	loaded := make([]loadedPayload, len(facts))
	for i, f := range facts {
		keys[i] = store.Key{Kind: store.Outgoing, Seq: f.key}
		loaded[i].outFact = f
	}
	for at := 0; at < len(keys); {
		from := at
		err := k.session.Read(keys[from:], func(i int, value []byte) error {
			var m storedMessage
			l := &loaded[from+i]
			if l.err = m.decode(value); l.err == nil {
				l.payload = slices.Clone(m.payload)
			}
			at = from + i + 1
			return nil
		})
		if err != nil && at < len(keys) {
			loaded[at].err = err
			at++
		}
	}
	return loaded
}

// fetched puts a payload where it is waited for.
func (o *outbound) fetched(l *loadedPayload) {
	r := l.r
	if r.key != l.key || !r.onDisk {
		return
	}
	if l.err != nil {
		o.notFetched(l)
		return
	}
	r.payload, r.onDisk = l.payload, false
}

// notFetched gives up a message whose payload is damaged. What could not be read
// this time is tried again with a rest, while others are committed, and in the end
// left in the store: a later process may be able to.
func (o *outbound) notFetched(l *loadedPayload) {
	r := l.r
	err := &StoreError{Op: "read", Err: l.err}
	if r.reads++; !l.gone() && r.reads < storeFailures {
		key := l.key
		time.AfterFunc(storePause, func() { o.fetchAgain(r, key) })
		return
	}
	o.passOver(r)
	if !l.gone() {
		o.unkeepExchange(r)
		r.staged = durNone
		o.log(StoreFailed{Err: err})
	}
	o.finish(r, err)
}

// gone reports whether the record is not there any more, or not as it was written.
func (l *loadedPayload) gone() bool {
	_, damaged := errors.AsType[*store.DamageError](l.err)
	return damaged || errors.Is(l.err, store.ErrNotFound) || errors.Is(l.err, errStoredValue) || errors.Is(l.err, errStoredFormat)
}

// fetchAgain is fetch after a rest, unless r has ended meanwhile.
func (o *outbound) fetchAgain(r *record, key uint64) {
	o.mu.Lock()
	defer o.unlock()
	if r.key == key && r.onDisk && !o.keep.closed {
		o.fetch(r)
	}
}
