package mqtt

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/millrace/mqtt/internal/chance"
)

// The model of the way out: outbound with its window, driven step by step by
// random publishes, acknowledgements, cuts and resumes, beside a broker that
// records what it holds. A step of the window's goroutine or of the writer is
// taken only when it was woken. What must hold at every step:
//
//   - a packet identifier is never 0, never on the wire for two open exchanges,
//     and is that of its exchange until this ends;
//   - the quota is never negative and never above the limit; at most so many
//     PUBLISHes are unacknowledged on a link, resends included; PUBREL takes none;
//   - on each link the QoS 1 and 2 PUBLISHes are in the order of Publish, each at
//     most once: resends come in their order and before anything new; QoS 0 is in
//     the order of Publish over all links;
//   - DUP is 0 on the first sending in a session; a message is never PUBLISHed
//     again after its PUBREC; PUBRELs leave in the order of the PUBRECs;
//   - a Future resolves once and truthfully: nil only after the acknowledgement
//     (QoS 0: the write), MayHaveArrived false only if the broker never had it,
//     and not while the writer reads the payload; QoS 2 reaches the broker once;
//   - what the broker answers by the wrong kind of packet ends the link, and fails
//     with ErrWrongAck when three links ended so, not before; on 3.x a PUBACK for
//     QoS 2 fails it at once;
//   - Flush is through when, and only when, all that was accepted is resolved;
//   - nothing that can move waits while every party sleeps;
//   - at the end nothing is left: no place taken, no identifier but those set aside.

func TestWindowModel(t *testing.T) {
	runSeeds(t, func(seed uint64, trace bool) (string, error) { return runOutModel(newOutModel(seed, trace)) })
}

// modelSeeds is how many seeds a model runs.
func modelSeeds(t *testing.T) uint64 {
	switch {
	case chance.Long():
		return 200_000
	case testing.Short():
		return 200
	}
	return 2_000
}

// runSeeds runs a model for many seeds; it runs a failing seed again to print its trace.
func runSeeds(t *testing.T, run func(seed uint64, trace bool) (string, error)) {
	t.Parallel()
	n := modelSeeds(t)
	base, given := chance.Given(t)
	if given {
		n = 1
	} else {
		base = 1
	}
	for seed := base; seed < base+n; seed++ {
		if _, err := run(seed, false); err != nil {
			trace, again := run(seed, true)
			t.Fatalf("MILLRACE_SEED=%d: %v\nagain: %v\n%s", seed, err, again, trace)
		}
	}
	t.Logf("%d seeds from %d", n, base)
}

type modelPub struct {
	n        int // order of Publish
	qos      QoS
	fut      *Future
	waits    waiter
	resolved bool

	sighted   int    // how often a PUBLISH of it reached the broker
	delivered int    // how often the broker took it as new
	session   uint32 // in which it was sighted last
	id        uint16 // there
	acked     bool   // the positive final acknowledgement was handed over
	nacked    bool
	wrong     bool   // PUBACK for QoS 2 on 3.x, or three links ended for wrong answers
	accused   uint32 // link on which it was answered wrongly last
	accusals  int    // links that ended so
	released  bool   // PUBREC was handed over
	recSeq    int    // order of the PUBRECs
	relLink   uint32 // link of the last PUBREL
	canceled  bool

	stored bool // in the session store when a process died
	told   bool // an event said that it was dropped
}

func (p *modelPub) String() string { return fmt.Sprintf("#%d/q%d", p.n, p.qos) }

type modelAck struct {
	fact ackFact
	pub  *modelPub
}

type modelFlush struct {
	done <-chan struct{}
	pubs []*modelPub
}

type outModel struct {
	rng     *rand.Rand
	tracing bool
	large   bool // many large payloads
	hostile bool // the broker answers wrongly, again and again
	trace   []string

	o       *outbound
	w       resolver
	v       Version
	l       *link // nil while down
	no      uint32
	asleep  bool
	calm    bool // nothing fails any more
	writing *sendBuffer
	reading []*modelPub // with payloads that the writer reads
	limit   int

	pubs    []*modelPub
	live    []*modelPub // unresolved
	flushes []modelFlush

	session   uint32
	open      map[uint16]any // *modelPub or the control's number
	linkOpen  map[uint16]*modelPub
	exchanges map[uint16]*modelPub // QoS 2, received and not released
	released  map[uint16]*modelPub // PUBREC handed over, PUBCOMP not
	pending   []modelAck
	strangers map[uint16]int
	last12    int // of this link
	last0     int
	lastRec   int // of this link
	recs      int
	dropped   uint64

	controls, answered, ctlDropped int

	disk *modelDisk // nil without a session store
}

type modelFault string

func (m *outModel) failf(format string, args ...any) { panic(modelFault(fmt.Sprintf(format, args...))) }

func (m *outModel) logf(format string, args ...any) {
	if m.tracing {
		m.trace = append(m.trace, fmt.Sprintf(format, args...))
	}
}

func runOutModel(m *outModel) (trace string, err error) {
	tracing := m.tracing
	defer func() {
		if r := recover(); r != nil {
			if _, ours := r.(modelFault); !ours && tracing {
				panic(fmt.Sprint(r, "\n", strings.Join(m.trace, "\n")))
			}
			trace, err = strings.Join(m.trace, "\n"), fmt.Errorf("%v", r)
		}
	}()
	for range 60 + m.rng.IntN(200) {
		m.step()
		m.check()
	}
	m.finale()
	return "", nil
}

func newOutModel(seed uint64, tracing bool) *outModel {
	rng := chance.Stream(seed, 1)
	m := &outModel{rng: rng, tracing: tracing, session: 1,
		open: map[uint16]any{}, linkOpen: map[uint16]*modelPub{}, exchanges: map[uint16]*modelPub{},
		released: map[uint16]*modelPub{}, strangers: map[uint16]int{}, last0: -1}
	cfg := queueConfig{
		messages: 2 + rng.IntN(40), bytes: 200 + rng.IntN(4000),
		policy: QueuePolicy(rng.IntN(4)), keepQoS0: rng.IntN(2) == 0,
		inflight3: 1 + rng.IntN(12), inflight5: 1 + rng.IntN(12),
		lost1: LostPolicy(rng.IntN(3)), lost2: LostPolicy(rng.IntN(3)),
	}
	switch rng.IntN(12) {
	case 0, 1, 2, 3:
		cfg.bytes = 100_000
	case 4:
		// Enough for payloads beside the buffer to fill several.
		cfg.bytes, cfg.messages, m.large = 4<<20, 200, true
	}
	m.v = []Version{V31, V311, V5, V5}[rng.IntN(4)]
	m.hostile = rng.IntN(5) == 0
	m.o = newOutbound(cfg, m.event)
	m.o.win.maxID = uint16(2 + rng.IntN(14))
	if m.large && rng.IntN(2) == 0 {
		// A window that does not fill before the buffer.
		m.o.cfg.inflight3, m.o.cfg.inflight5, m.o.win.maxID = 40, 40, 60
	}
	m.o.win.lastID = uint16(rng.IntN(int(m.o.win.maxID)))
	m.logf("cfg %+v v%v maxID %d", cfg, m.v, m.o.win.maxID)
	return m
}

func (m *outModel) event(ev Event) {
	d, ok := ev.(MessageDropped)
	if !ok {
		return
	}
	if m.dropped++; d.Total != m.dropped {
		m.failf("dropped event says %d, it is the %dth", d.Total, m.dropped)
	}
	if m.disk != nil {
		m.disk.told(m, d.Topic)
	}
}

func (m *outModel) step() {
	if m.disk != nil && m.rng.IntN(4) == 0 {
		m.disk.step(m)
		return
	}
	if m.hostile && m.rng.IntN(5) == 0 {
		m.wrongAck()
		return
	}
	switch n := m.rng.IntN(100); {
	case n < 30:
		m.publish()
	case n < 45:
		m.write()
	case n < 55:
		m.wrote()
	case n < 75:
		m.deliver(1 + m.rng.IntN(3))
	case n < 85:
		m.turn()
	case n < 87:
		m.cancel()
	case n < 89:
		m.giveUp()
	case n < 91:
		m.control()
	case n < 93:
		m.wrongAck()
	case n < 94:
		m.flush()
	case n < 97:
		if m.l == nil {
			m.up(m.rng.IntN(3) > 0)
		} else if m.rng.IntN(2) == 0 {
			m.cut()
		}
	default:
		m.quiesce()
	}
}

func (m *outModel) publish() {
	p := &modelPub{n: len(m.pubs), qos: QoS(m.rng.IntN(3))}
	m.pubs = append(m.pubs, p)
	msg := Message{Topic: "t", QoS: p.qos, Retain: m.rng.IntN(20) == 0}
	size := 8
	if m.large && m.rng.IntN(2) == 0 {
		size = 2 * refSize
	}
	switch m.rng.IntN(40) {
	case 0:
		size = refSize + 1
	case 1:
		size = slabPayload + 1
	case 2, 3, 4, 5, 6:
		size = 8 + m.rng.IntN(200)
	}
	msg.Payload = fmt.Appendf(make([]byte, 0, size), "%08d", p.n)[:size]
	if m.rng.IntN(2) == 0 {
		msg = msg.GiveAway()
	}
	if m.disk != nil {
		msg.Topic = fmt.Sprintf("t%d", p.n)
		msg.Properties = &Properties{Key: msg.Topic}
	}
	g, err := checkOutgoing(&msg)
	if err != nil {
		m.failf("%v", err)
	}
	m.o.price(&g)
	wait := m.rng.IntN(4) > 0
	f, waits, err := m.o.submit(&g, wait)
	m.logf("publish %v %d B wait %v: waits %v, %v", p, size, wait, waits.ready != nil, err)
	if err != nil {
		p.resolved = true
		if errors.Is(err, ErrDropped) != (m.o.cfg.policy >= QueueDropOldest) && !m.refused(err) {
			m.failf("refused with %v under policy %v", err, m.o.cfg.policy)
		}
		return
	}
	p.fut, p.waits = f, waits
	if waits.ready != nil && (!wait || m.o.cfg.policy != QueueWait) {
		m.failf("waits, but must not")
	}
	m.live = append(m.live, p)
}

// refused reports whether err is a refusal that has nothing to do with the queue's limit.
func (m *outModel) refused(err error) bool {
	var large *PacketTooLargeError
	return errors.Is(err, ErrNotConnected) || errors.Is(err, ErrNotSupported) || errors.As(err, &large)
}

// waiting reports whether p is not accepted yet.
func (p *modelPub) waiting() bool {
	if p.waits.ready == nil {
		return false
	}
	select {
	case <-p.waits.ready:
		return false
	default:
		return true
	}
}

// turn is a step of the window's goroutine, if it was woken.
func (m *outModel) turn() {
	select {
	case <-m.o.wake:
	default:
		return
	}
	m.logf("turn")
	for more := true; more; {
		for _, r := range m.o.resolved {
			if r.fut.Err() != ErrPending {
				m.failf("a Future is about to resolve twice")
			}
		}
		more, _ = m.w.turn(m.o)
	}
}

func (m *outModel) cancel() {
	if len(m.live) == 0 {
		return
	}
	p := m.live[m.rng.IntN(len(m.live))]
	if p.fut.Cancel() {
		m.logf("cancel %v", p)
		p.canceled = true
		if p.sighted > 0 {
			m.failf("%v was canceled but sent before", p)
		}
	}
}

func (m *outModel) giveUp() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, p := range m.live {
		if p.waiting() && m.rng.IntN(2) == 0 {
			m.logf("give up %v", p)
			p.canceled = true
			m.o.await(ctx, p.fut, p.waits)
			if !errors.Is(p.fut.Err(), context.Canceled) {
				m.failf("gave up with %v", p.fut.Err())
			}
		}
	}
}

func (m *outModel) control() {
	if m.l != nil {
		m.logf("control")
		if m.o.control(testControl(&m.answered, &m.ctlDropped)) {
			m.controls++
		}
	}
}

func (m *outModel) flush() {
	var of []*modelPub
	for _, p := range m.live {
		if !p.waiting() {
			of = append(of, p)
		}
	}
	m.logf("flush")
	m.flushes = append(m.flushes, modelFlush{m.o.flush(), of})
}
