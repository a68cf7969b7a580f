package mqtt

import (
	"errors"
	"fmt"
	"testing"

	"github.com/millrace/mqtt/store"
)

// The model of the way out with a session store: batches are committed after
// random delays, fail at random, and the process dies at random, before a commit,
// or after it and before it was reported. Over all processes must hold, besides
// what window_model_test.go says:
//
//   - a PUBLISH is written only once message and identifier are durable, a PUBREL
//     only once "released" is;
//   - what was stored when the process died reaches the broker, or an event told
//     that it did not; QoS 2 once; on each link in the order of Publish;
//   - no identifier that is open in the store is given to another exchange, and
//     no record stands under a number that was used before;
//   - PUBLISH never follows a durable "released";
//   - at the end the store holds the identifiers set aside and nothing else.
//
// Left out is what the protocol cannot tell: a process that dies after a session
// was lost and before it could note that finds the next one present.

func TestWindowModelWithStore(t *testing.T) {
	runSeeds(t, func(seed uint64, trace bool) (string, error) {
		m := newOutModel(seed, trace)
		m.disk = &modelDisk{mem: store.NewMemory(), used: map[uint64]bool{}}
		m.disk.open(m)
		return runOutModel(m)
	})
}

// modelDisk is the session store of a model, and its committer.
type modelDisk struct {
	store.Session
	mem     *store.Memory
	m       *outModel
	b       storeBatch
	taken   bool // b is in progress
	unsaved bool // that the session was lost may not be durable yet
	crashes int
	used    map[uint64]bool // numbers of messages
}

// open begins a process.
func (d *modelDisk) open(m *outModel) {
	d.m = m
	session, r, err := openSession(d.mem, "c", m.rng.IntN(300))
	if err != nil {
		m.failf("%v", err)
	}
	if len(r.damaged) > 0 {
		m.failf("damaged: %v", r.damaged)
	}
	d.Session = session
	m.o.journal = &journal{
		session: d, epoch: r.epoch, budget: r.budget, closeNow: make(chan struct{}),
		inbound: func([]inFact, error) {}, failed: func(error, bool) {},
		running: true, // the model is the committer
	}
	m.o.restore(r)
	for _, rec := range append(r.outgoing, r.orphans...) {
		if rec.appKey == "" {
			continue
		}
		p := m.pubs[d.number(rec.appKey)]
		p.canceled = false // that was not durable
		if p.released = rec.state == recReleased; p.released {
			m.released[rec.id] = p
		}
	}
}

func (d *modelDisk) number(topic string) (n int) {
	fmt.Sscanf(topic, "t%d", &n)
	return n
}

func (d *modelDisk) told(m *outModel, topic string) { m.pubs[d.number(topic)].told = true }

func (d *modelDisk) step(m *outModel) {
	switch n := m.rng.IntN(60); {
	case n == 0:
		d.crash(m)
	case d.taken:
		d.commit(m)
	default:
		d.take(m)
	}
}

// take begins a batch.
func (d *modelDisk) take(m *outModel) {
	d.taken = m.o.nextBatch(&d.b)
	m.o.journal.running = true
	if !d.taken {
		d.unsaved = false
	}
}

// commit carries out the batch that was begun, as the committer does.
func (d *modelDisk) commit(m *outModel) {
	o := m.o
	for _, l := range o.journal.load(d.b.loads) {
		o.fetchedLocked(&l)
	}
	clear(d.b.loads)
	d.b.loads = d.b.loads[:0]
	o.pumpLocked()
	again := len(d.b.ops) > 0 && o.commitBatch(&d.b)
	m.logf("commit, again %v", again)
	if !again {
		d.b.reset()
		d.taken = false
	}
}

// work commits until nothing is gathered, and reports whether there was anything.
func (d *modelDisk) work(m *outModel) (busy bool) {
	for {
		if !d.taken {
			d.take(m)
		}
		if !d.taken {
			return busy
		}
		busy = true
		d.commit(m)
	}
}

// Commit fails at random.
func (d *modelDisk) Commit(ops []store.Op) error {
	if !d.m.calm && d.m.rng.IntN(8) == 0 {
		return errors.New("no space")
	}
	for _, op := range ops {
		if op.Key.Kind == store.Outgoing && !op.Delete {
			if d.used[op.Key.Seq] {
				d.m.failf("number %d is used again", op.Key.Seq)
			}
			d.used[op.Key.Seq] = true
		}
	}
	if err := d.Session.Commit(ops); err != nil {
		return err
	}
	d.checkIdentifiers()
	return nil
}

// checkIdentifiers checks that no two exchanges have one identifier.
func (d *modelDisk) checkIdentifiers() {
	taken := map[uint16]bool{}
	d.Load(func(e store.Entry) error {
		var x storedExchange
		if e.Key.Kind == store.Exchange && x.decode(e.Value) == nil {
			if taken[x.id] {
				d.m.failf("two exchanges with identifier %d", x.id)
			}
			taken[x.id] = true
		}
		return nil
	})
}

// durable returns the exchange of p in the store; its state is 0 when there is none.
func (d *modelDisk) durable(topic string) (x storedExchange) {
	keys := map[uint64]bool{}
	d.Load(func(e store.Entry) error {
		var s storedMessage
		switch {
		case e.Key.Kind == store.Outgoing && s.decode(e.Value) == nil && s.topic == topic:
			keys[e.Key.Seq] = true
		case e.Key.Kind == store.Exchange && keys[e.Key.Seq]:
			x.decode(e.Value)
		}
		return nil
	})
	return x
}

// checkCounts checks what is counted towards the budget of memory, and of what has
// its identifier ahead.
func (d *modelDisk) checkCounts(m *outModel) {
	resident, ahead := 0, 0
	for _, l := range []*recordList{&m.o.withID, &m.o.q12} {
		for r := l.head; r != nil; r = r.next {
			if r.resident {
				resident += len(r.payload)
			}
			if l == &m.o.withID {
				ahead += r.size
			}
		}
	}
	if resident != m.o.journal.resident || resident > m.o.journal.budget || ahead != m.o.ahead {
		m.failf("payloads of %d bytes are in memory, %d counted, the budget is %d; %d bytes are ahead, %d counted",
			resident, m.o.journal.resident, m.o.journal.budget, ahead, m.o.ahead)
	}
}

// has reports whether the message on topic is in the store.
func (d *modelDisk) has(topic string) (found bool) {
	d.Load(func(e store.Entry) error {
		var s storedMessage
		found = found || e.Key.Kind == store.Outgoing && s.decode(e.Value) == nil && s.topic == topic
		return nil
	})
	return found
}

// gone reports whether the exchange of p was ended, so that it may be deleted
// while its last PUBREL is still on the way.
func (d *modelDisk) gone(p *modelPub) bool { return p.resolved || p.acked }

// crash ends the process, and begins the next.
func (d *modelDisk) crash(m *outModel) {
	if d.unsaved || m.calm {
		return
	}
	if d.taken && m.rng.IntN(2) == 0 {
		d.Session.Commit(d.b.ops) // and it is not reported
	}
	m.logf("crash")
	for _, p := range m.live {
		p.stored = p.fut.kept
		p.resolved = true
		p.told = p.nacked // the process died before it could pass that on
		for _, r := range m.o.resolved {
			p.told = p.told || r.fut == p.fut // decided, and about to be told
		}
		for _, e := range m.o.journal.ends {
			p.told = p.told || e.fut == p.fut // the same
		}
	}
	for _, p := range m.pubs {
		p.wrong, p.accused, p.accusals = false, 0, 0 // only the process knew
	}
	if m.l != nil && m.l.proceed != nil {
		m.l.proceed.Stop() // it died with the process
	}
	d.crashes++
	d.Session.Close()
	d.b, d.taken = storeBatch{}, false
	maxID := m.o.win.maxID
	m.o = newOutbound(m.o.cfg, m.event)
	m.o.win.maxID = maxID
	m.w, m.l, m.writing, m.reading, m.live, m.flushes = resolver{}, nil, nil, nil, nil, nil
	m.pending, m.dropped, m.controls, m.answered, m.ctlDropped = nil, 0, 0, 0, 0
	clear(m.released)
	m.cutControls()
	d.open(m)
}

// check checks that nothing is lost, and that nothing is left.
func (d *modelDisk) check(m *outModel) {
	for _, p := range m.pubs {
		if p.stored && p.delivered == 0 && !p.told {
			m.failf("%v was stored and is lost", p)
		}
	}
	d.work(m)
	n := 0
	d.Load(func(e store.Entry) error {
		switch e.Key.Kind {
		case store.Meta:
		case store.Exchange:
			n++
		default:
			m.failf("left in the store: %v", e.Key)
		}
		return nil
	})
	if n != m.o.win.quarantined.n {
		m.failf("%d exchanges in the store, %d set aside", n, m.o.win.quarantined.n)
	}
}
