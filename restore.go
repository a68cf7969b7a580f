package mqtt

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/store"
)

// restored is a session as an earlier process left it in the store.
type restored struct {
	found    bool // there was one
	epoch    uint64
	outgoing []*record // in the order of acceptance
	released map[*record]uint64
	incoming []restoredIncoming
	orphans  []*record // exchanges whose message is gone: only the identifier counts
	damaged  []error
	stray    []store.Op // records of no use, to be deleted
	bytes    int        // of the payloads kept in memory
}

// restoredIncoming is an inbound QoS 2 exchange that waits for PUBREL.
type restoredIncoming struct {
	key uint64
	id  uint16
}

// openSession opens the session of clientID and reads what it holds; at most
// budget bytes of payloads that only wait to be sent are kept in memory.
func openSession(st store.Store, clientID string, budget int) (store.Session, *restored, error) {
	session, err := st.Session(clientID)
	if err != nil {
		return nil, nil, &StoreError{Op: "open", Err: err}
	}
	r := &restored{released: map[*record]uint64{}}
	if err := r.load(session, budget); err != nil {
		session.Close()
		return nil, nil, &StoreError{Op: "load", Err: err}
	}
	return session, r, nil
}

// load reads the session, then notes that a new process has it.
func (r *restored) load(session store.Session, budget int) error {
	byKey := map[uint64]*record{}
	topics := map[string]string{}
	err := session.Load(func(e store.Entry) error {
		err := e.Err
		if err == nil {
			err = r.entry(&e, byKey, topics)
		}
		if err != nil {
			r.damage(e.Key, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.spill(budget)
	r.epoch++
	meta := storedMeta{epoch: r.epoch}
	ops := append(r.stray, store.Op{Key: store.Key{Kind: store.Meta}, Head: meta.append(nil)})
	return session.Commit(ops)
}

// damage notes that a record is of no use.
func (r *restored) damage(key store.Key, err error) {
	if _, ok := errors.AsType[*store.DamageError](err); !ok {
		// The store holds what was written, but not by us.
		err = &store.DamageError{Key: key, Problem: err.Error()}
		r.stray = append(r.stray, store.Op{Key: key, Delete: true})
	}
	r.damaged = append(r.damaged, err)
}

// entry takes in one record. Those of kind Outgoing come before the Exchanges.
func (r *restored) entry(e *store.Entry, byKey map[uint64]*record, topics map[string]string) error {
	switch e.Key.Kind {
	case store.Meta:
		var m storedMeta
		if err := m.decode(e.Value); err != nil {
			return err
		}
		r.found, r.epoch = true, m.epoch
	case store.Outgoing:
		rec, err := restoredRecord(e, topics)
		if err != nil {
			return err
		}
		r.outgoing = append(r.outgoing, rec)
		byKey[e.Key.Seq] = rec
	case store.Exchange:
		var x storedExchange
		if err := x.decode(e.Value); err != nil {
			return err
		}
		r.exchange(&x, e.Key.Seq, byKey[e.Key.Seq])
	case store.Incoming:
		var x storedIncoming
		if err := x.decode(e.Value); err != nil {
			return err
		}
		r.incoming = append(r.incoming, restoredIncoming{e.Key.Seq, x.id})
	default:
		return fmt.Errorf("of a kind that this version does not know")
	}
	return nil
}

// restoredRecord makes the record of a message that waits to be sent.
func restoredRecord(e *store.Entry, topics map[string]string) (*record, error) {
	var m storedMessage
	if err := m.decode(e.Value); err != nil {
		return nil, err
	}
	if t, ok := topics[m.topic]; ok {
		m.topic = t // one string for all of a topic
	} else {
		topics[m.topic] = m.topic
	}
	size := len(m.topic) + len(m.payload) + codec.PropertiesSize(m.props)
	return &record{
		topic: m.topic, payload: slices.Clone(m.payload), props: m.props, qos: m.qos, retain: m.retain,
		expires: m.expires, appKey: m.key, key: e.Key.Seq, size: size, cost: len(e.Value), keep: true,
		since: time.Now(), staged: durMessage, saved: durMessage, restored: true,
	}, nil
}

// exchange takes in how far the exchange of rec is; rec is nil when the message
// is gone, damaged perhaps: the packet identifier stays taken all the same, and
// of what the server owns nothing more than that is needed.
func (r *restored) exchange(x *storedExchange, key uint64, rec *record) {
	if rec == nil {
		rec = &record{key: key, qos: x.qos, restored: true}
		r.orphans = append(r.orphans, rec)
		if x.state == exchangeSent {
			x.state = exchangeAside
		}
	}
	rec.id, rec.wire, rec.again = x.id, wireEarlier, true
	rec.staged, rec.saved = durSent, durSent
	switch x.state {
	case exchangeSent:
		rec.state = recSent
	case exchangeReleased:
		rec.state, rec.payload, rec.props = recReleased, nil, nil
		rec.staged, rec.saved = durReleased, durReleased
		r.released[rec] = x.release
	case exchangeAside:
		rec.state = recAside
	}
}

// spill leaves payloads beyond budget to the store, of messages that only wait.
func (r *restored) spill(budget int) {
	for _, rec := range r.outgoing {
		if rec.state != recQueued || len(rec.payload) == 0 {
			continue
		}
		if r.bytes+len(rec.payload) > budget {
			rec.payload, rec.onDisk = nil, true
			continue
		}
		r.bytes += len(rec.payload)
		rec.resident = true
	}
}

// restore makes r what outbound goes on with. It is called before anything else.
func (o *outbound) restore(r *restored) {
	w := &o.win
	for _, rec := range append(slices.Clone(r.outgoing), r.orphans...) {
		if rec.id != 0 && w.ids.get(rec.id) != nil {
			// Two exchanges with one identifier cannot be: go on with the first, and
			// send the message of the second as if it never was.
			delete(r.released, rec)
			if rec.topic == "" {
				o.keep.next.remove(store.Exchange, rec.key) // nothing to send: forget it
				continue
			}
			rec.id, rec.wire, rec.state = 0, 0, recQueued
		}
		o.adopt(rec)
	}
	released := make([]*record, 0, len(r.released))
	for rec := range r.released {
		released = append(released, rec)
	}
	slices.SortFunc(released, func(a, b *record) int { return cmp.Compare(r.released[a], r.released[b]) })
	for _, rec := range released {
		w.released.pushBack(rec)
	}
	o.keep.resident = r.bytes
}

// adopt takes in one record; the released ones go to their list afterwards.
func (o *outbound) adopt(rec *record) {
	w := &o.win
	if rec.id != 0 {
		w.ids.set(rec.id, rec)
		w.lastID = rec.id // the newest last
	}
	if rec.state == recAside {
		w.aside.pushBack(rec)
		return
	}
	o.seq++
	rec.seq = o.seq
	o.accepted++
	o.bytes += rec.cost
	rec.fut = o.newFuture()
	rec.fut.out, rec.fut.rec = o, rec
	rec.fut.stage, rec.fut.kept, rec.fut.id = StageStored, true, rec.id
	if rec.appKey != "" {
		o.key(rec)
	}
	switch rec.state {
	case recQueued:
		o.q12.pushBack(rec)
	case recSent:
		rec.fut.stage = StageSent
		w.order.pushBack(rec)
	case recReleased:
		rec.fut.stage = StageReceived
	}
}

// openStore opens the session store, if there is one, and takes in the session
// as an earlier process left it.
func (c *Conn) openStore() error {
	if c.cfg.store == nil {
		return nil
	}
	session, r, err := openSession(c.cfg.store, c.cfg.clientID, c.cfg.storeMemory)
	if err != nil {
		return err
	}
	c.restored = r.found
	c.out.keep = &keeper{
		session: session, epoch: r.epoch, budget: c.cfg.storeMemory,
		hurry: make(chan struct{}), inbound: c.storedInbound, failed: c.storeFailed,
	}
	if l := session.Limits(); l.Messages > 0 {
		c.out.cfg.messages = l.Messages
	}
	if l := session.Limits(); l.Bytes > 0 {
		c.out.cfg.bytes = int(min(l.Bytes, math.MaxInt))
	}
	c.out.restore(r)
	c.ledger.keep = c.out.keepIncoming
	c.ledger.restore(r.incoming)
	for _, err := range r.damaged {
		c.emit(StoreDamaged{Err: err})
		c.log.Warn("mqtt: record of the session store set aside", "client", c.cfg.clientID, "error", err)
	}
	return nil
}

// storedInbound hands on to the ledger what came of a commit. A PUBLISH whose
// record cannot be made is not answered, and the link ends [MQTT-4.8.0-2].
func (c *Conn) storedInbound(facts []inFact, err error) {
	c.ledger.committed(facts, err)
	if l := c.current(); l != nil && err != nil {
		l.kill(&StoreError{Op: "write", Err: err})
	}
}

// storeFailed tells of a failed commit, and ends the Conn when it was one too many.
func (c *Conn) storeFailed(err error, final bool) {
	err = &StoreError{Op: "write", Err: err}
	c.emit(StoreFailed{Err: err, Final: final})
	c.log.Error("mqtt: session store failed", "client", c.ClientID(), "error", err, "final", final)
	if final {
		c.beginClose()
		c.cancel(err)
	}
}
