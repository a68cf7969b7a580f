package mqtt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/store"
)

// restored is a session as an earlier process left it in the store.
type restored struct {
	found     bool // there was one
	epoch     uint64
	uncounted bool      // how many processes there were is not known
	releases  uint64    // PUBRECs so far
	outgoing  []*record // in the order of acceptance
	released  map[*record]uint64
	incoming  []restoredIncoming
	inbox     []*inboxItem // in the order of arrival; payloads stay in the store
	orphans   []*record    // exchanges whose message is gone: only the identifier counts
	damaged   []StoreDamaged
	givenUp   []MessageDropped // whose Future no caller can have
	unknownID bool             // there is an exchange whose packet identifier is not known
	stray     []store.Op       // records of no use, to be deleted or corrected
	bytes     int              // of the payloads kept in memory
	budget    int              // for them
	clock     sessionClock
	expiring  bool // a message expires

	byKey   map[uint64]*record
	byID    map[uint16]bool
	topics  map[string]string // one string for all messages of a topic
	missing map[uint64]bool   // messages known to be damaged
	later   laterRecords
}

// restoredIncoming is an inbound QoS 2 exchange that waits for PUBREL.
type restoredIncoming struct {
	key uint64
	id  uint16
}

// openSession opens the session of clientID and reads what it holds; at most
// budget bytes of payloads that only wait to be sent are kept in memory.
func openSession(st store.Store, clientID string, budget int) (store.Session, *restored, error) {
	return openSessionAt(systemClock, st, clientID, budget)
}

// openSessionAt is openSession by other clocks.
func openSessionAt(c clock, st store.Store, clientID string, budget int) (store.Session, *restored, error) {
	session, err := st.Session(clientID)
	if err != nil {
		return nil, nil, &StoreError{Op: "open", Err: err}
	}
	r := &restored{
		budget: budget, released: map[*record]uint64{}, byKey: map[uint64]*record{}, byID: map[uint16]bool{},
		topics: map[string]string{}, missing: map[uint64]bool{},
		later: laterRecords{messages: map[uint64]bool{}, withheld: map[*record]bool{}},
	}
	r.clock.begin(c, nil)
	if err := r.load(session); err != nil {
		session.Close()
		return nil, nil, &StoreError{Op: "load", Err: err}
	}
	return session, r, nil
}

// load reads the session, then notes that a new process has it.
func (r *restored) load(session store.Session) error {
	err := session.Load(func(e store.Entry) error {
		// Every number tells of a process: what one left must never be overwritten,
		// not even when the record of their count is damaged.
		r.found, r.epoch = true, max(r.epoch, e.Key.Seq>>keyEpoch)
		err := e.Err
		if err == nil {
			err = r.entry(&e)
		}
		switch {
		case errors.Is(err, errStoredFormat), errors.Is(err, errStoredKind):
			r.leave(&e, err)
		case err != nil:
			r.damage(e.Key, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.withhold()
	if err := r.fetchSent(session); err != nil {
		return err
	}
	if r.uncounted {
		r.epoch = max(r.epoch, lostEpoch())
	}
	r.epoch++
	r.clock.fixed = r.later.meta != nil
	if !r.expiring {
		r.clock.begin(r.clock.clock, nil)
	}
	if meta := r.meta(); meta != nil {
		r.stray = append(r.stray, store.Op{Key: store.Key{Kind: store.Meta}, Head: meta})
	}
	if len(r.stray) == 0 {
		return nil
	}
	return session.Commit(r.stray)
}

// meta returns the record that counts this process. In that of a later version
// nothing else is changed, and nothing at all when it does not count as ours does.
func (r *restored) meta() []byte {
	m := storedMeta{epoch: r.epoch}
	switch later := r.later.meta; {
	case later == nil:
		if r.expiring {
			m.clock = r.clock.reading()
		}
		return m.append(nil)
	case r.later.epoch() == 0:
		return nil
	default:
		return slices.Concat(later[:1], m.append(nil)[1:], later[metaSize:])
	}
}

// maxEpoch is the room for the number of a process in a key.
const maxEpoch = 1<<(64-keyEpoch) - 1

// lostEpoch is where to go on counting processes when the count is lost: above
// what is ever counted up to, and hardly twice the same, since an application may
// remember the keys of its inbox.
func lostEpoch() uint64 { return 1<<(63-keyEpoch) + rand.Uint64N(1<<(62-keyEpoch)) }

// damage notes that a record is of no use.
func (r *restored) damage(key store.Key, err error) {
	if _, ok := errors.AsType[*store.DamageError](err); !ok {
		// The store holds what was written, but not by us.
		err = &store.DamageError{Key: key, Problem: err.Error()}
		r.stray = append(r.stray, store.Op{Key: key, Delete: true})
	}
	switch key.Kind {
	case store.Meta:
		r.uncounted = true
	case store.Outgoing:
		r.missing[key.Seq] = true
	case store.Exchange:
		r.untold(r.byKey[key.Seq], err)
	}
	r.damaged = append(r.damaged, StoreDamaged{Err: err})
}

// entry takes in one record. Those of kind Outgoing come before the Exchanges.
func (r *restored) entry(e *store.Entry) error {
	switch e.Key.Kind {
	case store.Meta:
		var m storedMeta
		if err := m.decode(e.Value); err != nil {
			return err
		}
		r.epoch = max(r.epoch, m.epoch)
		r.clock.begin(r.clock.clock, m.clock)
	case store.Outgoing:
		rec, err := r.record(e)
		if err != nil {
			return err
		}
		r.outgoing = append(r.outgoing, rec)
		r.byKey[e.Key.Seq] = rec
	case store.Exchange:
		var x storedExchange
		if err := x.decode(e.Value); err != nil {
			return err
		}
		return r.exchange(&x, e.Key.Seq)
	case store.Incoming:
		var x storedIncoming
		if err := x.decode(e.Value); err != nil {
			return err
		}
		r.incoming = append(r.incoming, restoredIncoming{e.Key.Seq, x.id})
	case store.Inbox:
		var x storedInbox
		p, err := x.decodeHead(e.Value)
		if err != nil {
			return err
		}
		m := Message{Topic: r.topic(string(p.Topic)), Payload: p.Payload}
		for i, name := range x.names {
			x.names[i] = r.topic(name)
		}
		r.inbox = append(r.inbox, &inboxItem{key: e.Key.Seq, topic: m.Topic, names: x.names, size: mailSize(&m)})
	default:
		return errStoredKind
	}
	return nil
}

// record makes the record of a message that waits to be sent. Payloads beyond
// the budget are left to the store.
func (r *restored) record(e *store.Entry) (*record, error) {
	var m storedMessage
	if err := m.decode(e.Value); err != nil {
		return nil, err
	}
	m.topic = r.topic(m.topic)
	size := len(m.topic) + len(m.payload) + codec.PropertiesSize(m.props)
	rec := &record{exchange: exchange{
		topic: m.topic, props: m.props, qos: m.qos, retain: m.retain,
		expires: r.expires(&m), appKey: m.key, key: e.Key.Seq, size: size, cost: len(e.Value), byRef: true,
		since: time.Now(), staged: durMessage, saved: durMessage, restored: true,
	}}
	switch n := len(m.payload); {
	case n == 0:
	case r.bytes+n > r.budget:
		rec.onDisk = true
	default:
		r.bytes += n
		rec.payload, rec.resident = slices.Clone(m.payload), true
	}
	return rec, nil
}

// expires returns when m expires on the clock of outbound.uptime, 0 for never. The
// time left is never more than the whole, which counts when a version that knew no
// clock of the session stored m while the wall clock was ahead of today's.
func (r *restored) expires(m *storedMessage) time.Duration {
	if m.expires.IsZero() {
		return 0
	}
	r.expiring = true
	left := m.expires.Sub(r.clock.now.session)
	if m.props.Has(codec.PropMessageExpiryInterval) {
		left = min(left, time.Duration(m.props.MessageExpiry)*time.Second)
	}
	if at := r.clock.now.uptime + left; at != 0 {
		return at
	}
	return 1
}

// topic returns one string for all messages of a topic.
func (r *restored) topic(name string) string {
	if t, ok := r.topics[name]; ok {
		return t
	}
	r.topics[name] = name
	return name
}

// exchange takes in how far the exchange of the message with that key is.
func (r *restored) exchange(x *storedExchange, key uint64) error {
	rec := r.byKey[key]
	if r.byID[x.id] {
		return fmt.Errorf("packet identifier %d belongs to an earlier exchange", x.id)
	}
	r.byID[x.id] = true
	if r.later.messages[key] && x.state != exchangeReleased {
		r.reserve(x.id)
		return nil
	}
	if rec == nil {
		rec = r.orphan(x, key)
	} else if rec.resident {
		rec.resident = false // what is in flight is in memory anyhow
		r.bytes -= len(rec.payload)
	}
	rec.id, rec.sentOnLink, rec.sentBefore = x.id, sentByEarlierProcess, true
	rec.staged, rec.saved = durSent, durSent
	switch x.state {
	case exchangeSent:
		rec.state = recSent
	case exchangeReleased:
		rec.state, rec.payload, rec.props, rec.onDisk = recReleased, nil, nil, false
		rec.staged, rec.saved = durReleased, durReleased
		r.released[rec] = x.release
		r.releases = max(r.releases, x.release)
	case exchangeQuarantined:
		rec.state = recQuarantined
	}
	return nil
}

// untold takes in that it is not known how far the exchange of rec is: its record
// is damaged, or has the packet identifier of another. The message goes as a new
// one when it may double, else not at all.
func (r *restored) untold(rec *record, why error) {
	r.unknownID = true
	switch {
	case rec == nil:
	case rec.qos == 1:
		rec.sentOnLink = sentByEarlierProcess // the server may have it
	default:
		r.outgoing = slices.DeleteFunc(r.outgoing, func(o *record) bool { return o == rec })
		for _, kind := range []store.Kind{store.Outgoing, store.Exchange} {
			r.stray = append(r.stray, store.Op{Key: store.Key{Kind: kind, Seq: rec.key}, Delete: true})
		}
		if rec.resident {
			r.bytes -= len(rec.payload)
		}
		r.giveUp(rec, why)
	}
}

// giveUp notes that rec is never sent.
func (r *restored) giveUp(rec *record, why error) {
	r.givenUp = append(r.givenUp, MessageDropped{Topic: rec.topic, Key: rec.appKey, Err: &StoreError{Op: "load", Err: why}})
}

// orphan makes the record of an exchange whose message is gone, damaged perhaps:
// the packet identifier stays taken all the same, and of what the server owns
// nothing more than that is needed.
func (r *restored) orphan(x *storedExchange, key uint64) *record {
	rec := &record{exchange: exchange{key: key, qos: x.qos, restored: true}}
	r.orphans = append(r.orphans, rec)
	if x.state == exchangeSent {
		k := store.Key{Kind: store.Exchange, Seq: key}
		x.state = exchangeQuarantined
		r.stray = append(r.stray, store.Op{Key: k, Head: x.append(nil)})
		if !r.missing[key] {
			r.damaged = append(r.damaged, StoreDamaged{Err: &store.DamageError{Key: k, Problem: "its message is missing"}})
		}
	}
	return rec
}

// fetchSent brings the payloads of what is to be sent again into memory.
func (r *restored) fetchSent(session store.Session) error {
	for i := 0; i < len(r.outgoing); i++ {
		rec := r.outgoing[i]
		if rec.state != recSent || !rec.onDisk {
			continue
		}
		k := journal{session: session}
		l := &k.load([]outFact{{r: rec, key: rec.key}})[0]
		if _, ok := errors.AsType[*store.DamageError](l.err); ok {
			r.damaged = append(r.damaged, StoreDamaged{Err: l.err})
			x := storedExchange{id: rec.id, qos: rec.qos, state: exchangeQuarantined}
			r.stray = append(r.stray, store.Op{Key: store.Key{Kind: store.Exchange, Seq: rec.key}, Head: x.append(nil)},
				store.Op{Key: store.Key{Kind: store.Outgoing, Seq: rec.key}, Delete: true})
			rec.state = recQuarantined
			r.giveUp(rec, l.err)
			continue
		}
		if l.err != nil {
			return l.err
		}
		rec.payload, rec.onDisk = l.payload, false
	}
	return nil
}
