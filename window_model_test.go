package mqtt

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/millrace/mqtt/codec"
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
//   - nothing that can move waits while everybody sleeps;
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
	writing *outbuf
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

// write is a step of the writer: it takes the next buffer, if it is awake.
func (m *outModel) write() {
	if m.l == nil || m.writing != nil || m.l.killed() {
		return
	}
	if m.asleep {
		select {
		case <-m.l.work:
			m.asleep = false
		default:
			return
		}
	}
	b, packets := takeBuffer(m.o, m.l)
	if b == nil {
		m.asleep = true
		return
	}
	m.writing, m.reading = b, nil
	for _, r := range b.held {
		for _, p := range m.live {
			if r.fut != nil && p.fut == r.fut {
				m.reading = append(m.reading, p)
			}
		}
	}
	if n := len(packets); n > 0 && !m.calm && m.rng.IntN(25) == 0 {
		packets = packets[:m.rng.IntN(n)]
		m.logf("write fails after %d of %d", len(packets), n)
		m.receive(packets)
		m.done(errors.New("broken pipe"))
		m.cut()
		return
	}
	m.logf("write %v", packets)
	m.receive(packets)
}

// done is the writer's note that it has written, or could not.
func (m *outModel) done(err error) {
	for _, r := range m.writing.refs {
		if len(r.payload) <= refSize {
			m.failf("small payload by reference")
		}
	}
	b := m.writing
	m.writing, m.reading = nil, nil
	m.o.wrote(&m.l.sender, b, err)
	b.reset()
}

func (m *outModel) wrote() {
	if m.writing != nil {
		m.logf("wrote")
		m.done(nil)
	}
}

// receive is the broker taking packets.
func (m *outModel) receive(packets []sentPacket) {
	for _, p := range packets {
		switch p.typ {
		case codec.PUBLISH:
			m.receivePublish(p)
		case codec.PUBREL:
			m.receiveRelease(p)
		case codec.SUBSCRIBE:
			m.checkNewID(p.id)
			m.open[p.id] = p.typ
			m.pending = append(m.pending, modelAck{fact: ackFact{typ: codec.SUBACK, id: p.id, codes: []codec.ReasonCode{0}}})
		default:
			m.failf("unexpected %v", p)
		}
	}
}

func (m *outModel) checkNewID(id uint16) {
	if id == 0 || id > m.o.win.maxID {
		m.failf("packet identifier %d", id)
	}
	if m.open[id] != nil {
		m.failf("packet identifier %d is open for %v", id, m.open[id])
	}
}

func (m *outModel) receivePublish(p sentPacket) {
	var n int
	fmt.Sscanf(p.payload[:8], "%08d", &n)
	pub := m.pubs[n]
	if pub.qos != p.qos || pub.canceled || pub.released {
		m.failf("%v of %v (canceled %v, released %v)", p, pub, pub.canceled, pub.released)
	}
	if m.disk != nil && p.qos > 0 && m.disk.durable(p.topic) != (storedExchange{id: p.id, qos: p.qos, state: exchangeSent}) {
		m.failf("%v of %v is not in the store: %+v", p, pub, m.disk.durable(p.topic))
	}
	pub.sighted++
	if p.qos == 0 {
		if p.dup || n <= m.last0 {
			m.failf("QoS 0 %v after #%d", p, m.last0)
		}
		m.last0 = n
		pub.delivered++
		return
	}
	if n <= m.last12 {
		m.failf("%v after #%d on one link", pub, m.last12)
	}
	m.last12 = n
	if !p.dup {
		if pub.session == m.session {
			m.failf("%v sent again without DUP", pub)
		}
		m.checkNewID(p.id)
	} else if was := m.open[p.id]; was != nil && was != any(pub) || pub.session == m.session && pub.id != p.id {
		m.failf("%v of %v, which had %d; the identifier is open for %v", p, pub, pub.id, was)
	}
	pub.session, pub.id = m.session, p.id
	m.open[p.id], m.linkOpen[p.id] = pub, pub
	if len(m.linkOpen) > m.limit {
		m.failf("%d PUBLISHes unacknowledged, limit %d", len(m.linkOpen), m.limit)
	}
	m.answerPublish(pub)
}

// answerPublish queues the broker's answer.
func (m *outModel) answerPublish(pub *modelPub) {
	a := modelAck{fact: ackFact{typ: codec.PUBACK, id: pub.id}, pub: pub}
	refuse := m.v == V5 && m.rng.IntN(12) == 0
	switch {
	case pub.qos == 1 && !refuse:
		pub.delivered++
	case pub.qos == 2 && m.exchanges[pub.id] != nil:
		a.fact.typ, refuse = codec.PUBREC, false // known
	case pub.qos == 2:
		a.fact.typ = codec.PUBREC
		if !refuse {
			m.exchanges[pub.id] = pub
			if pub.delivered++; pub.delivered > 1 && m.o.cfg.lost2 != LostPublish {
				m.failf("%v reached the broker twice", pub)
			}
		}
	}
	if refuse {
		a.fact.code = codec.QuotaExceeded
	}
	m.pending = append(m.pending, a)
}

func (m *outModel) receiveRelease(p sentPacket) {
	pub := m.released[p.id]
	if p.code != codec.Success || pub == nil {
		if m.strangers[p.id]--; m.strangers[p.id] < 0 {
			m.failf("%v for no PUBREC", p)
		}
		return
	}
	if m.disk != nil && !m.disk.gone(pub) && m.disk.durable(fmt.Sprintf("t%d", pub.n)).state != exchangeReleased {
		m.failf("%v of %v is not in the store", p, pub)
	}
	if pub.relLink != m.no {
		if pub.relLink = m.no; pub.recSeq < m.lastRec {
			m.failf("%v of %v out of order", p, pub)
		}
		m.lastRec = pub.recSeq
	}
	code := codec.Success
	if m.exchanges[p.id] == nil && m.v == V5 {
		code = codec.PacketIdentifierNotFound
	}
	delete(m.exchanges, p.id)
	for _, a := range m.pending {
		if a.pub == pub && a.fact.typ == codec.PUBCOMP {
			return // asked again before the answer left
		}
	}
	m.pending = append(m.pending, modelAck{ackFact{typ: codec.PUBCOMP, id: p.id, code: code}, pub})
}

// deliver hands over n of the broker's answers, in any order.
func (m *outModel) deliver(n int) {
	for ; n > 0 && len(m.pending) > 0 && m.l != nil && !m.l.killed(); n-- {
		i := m.rng.IntN(len(m.pending))
		a := m.pending[i]
		m.pending = append(m.pending[:i], m.pending[i+1:]...)
		m.hand(a)
	}
}

// hand hands one answer to the client and notes what it now knows.
func (m *outModel) hand(a modelAck) {
	m.logf("ack %v %d %v", a.fact.typ, a.fact.id, a.fact.code)
	id, pub := a.fact.id, a.pub
	switch {
	case pub == nil:
		delete(m.open, id)
	case a.fact.typ == codec.PUBREC && !a.fact.code.IsError():
		if !pub.released {
			m.recs++
			pub.recSeq = m.recs
		}
		pub.released, m.released[id] = true, pub
	default:
		delete(m.open, id)
		delete(m.linkOpen, id)
		delete(m.released, id)
		pub.acked = !a.fact.code.IsError() || a.fact.typ == codec.PUBCOMP
		pub.nacked = !pub.acked
	}
	m.o.acks(&m.l.sender, []ackFact{a.fact})
}

// wrongAck hands over an acknowledgement that answers nothing, or not this.
func (m *outModel) wrongAck() {
	if m.l == nil || m.l.killed() {
		return
	}
	kinds := []codec.Type{codec.PUBACK, codec.PUBREC, codec.PUBCOMP, codec.SUBACK, codec.UNSUBACK}
	f := ackFact{typ: kinds[m.rng.IntN(5)], id: uint16(1 + m.rng.IntN(int(m.o.win.maxID)))}
	for _, p := range m.live {
		if m.hostile && p.accusals > 0 && p.fut.PacketID() != 0 {
			f.id = p.fut.PacketID() // the same one again
			break
		}
	}
	r := m.o.win.ids.get(f.id)
	if len(m.o.inbox) > 0 {
		return // what the identifier stands for is about to change
	}
	switch {
	case r == nil:
		if f.typ == codec.PUBREC {
			m.strangers[f.id]++
		}
	case (r.state == recSent || r.state == recReleased) && r.wire != m.l.no:
		// Not sent again yet: must change nothing.
	case r.state == recSent && r.qos == 2 && f.typ == codec.PUBACK && m.linkOpen[f.id] != nil:
		if m.disk != nil {
			return // what the server then takes for a new message doubles over a crash
		}
		if m.v != V5 {
			m.takenWrong(f.id)
		} else {
			m.accuse(r)
		}
	case r.state == recSent && r.qos == 2 && (f.typ == codec.PUBCOMP || f.ofControl()):
		m.accuse(r)
	case r.state == recSent && r.qos == 1 && f.typ != codec.PUBACK:
		m.accuse(r)
	case r.state == recReleased && (f.typ == codec.PUBACK || f.ofControl()):
		m.accuse(r)
	case r.state == recControl && f.typ != codec.SUBACK:
	default:
		return
	}
	m.logf("wrong ack %v %d", f.typ, f.id)
	m.o.acks(&m.l.sender, []ackFact{f})
	m.turn()
}

// accuse notes that the publish of r is answered by the wrong kind of packet.
func (m *outModel) accuse(r *record) {
	for _, p := range m.live {
		if p.fut == r.fut {
			p.accused = m.no
		}
	}
}

// closedForWrongAcks notes that the link ended for them: what got three closed so
// must fail, unless its acknowledgement came on the same link.
func (m *outModel) closedForWrongAcks() {
	for _, p := range m.live {
		if p.accused != m.no {
			continue
		}
		if p.accused = 0; p.fut.Err() != ErrPending || p.acked || p.nacked {
			continue
		}
		p.accusals++
		p.wrong = p.wrong || p.accusals >= misanswerLimit
	}
}

// takenWrong notes that the server took PUBACK for the end of a QoS 2 exchange.
func (m *outModel) takenWrong(id uint16) {
	m.linkOpen[id].wrong = true
	delete(m.open, id)
	delete(m.linkOpen, id)
	delete(m.exchanges, id)
	kept := m.pending[:0]
	for _, a := range m.pending {
		if a.fact.id != id {
			kept = append(kept, a)
		}
	}
	m.pending = kept
}

// turn is a step of the window's goroutine, if it was woken.
func (m *outModel) turn() {
	select {
	case <-m.o.kick:
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

func (m *outModel) up(present bool) {
	m.no++
	m.limit = 1 + m.rng.IntN(10)
	m.l = newFakeLink(m.o, m.no, m.v, m.limit)
	if m.rng.IntN(6) == 0 && m.v == V5 {
		m.l.agreed.maximumQoS = 1
		m.l.agreed.noRetain = true
		m.l.agreed.maximumPacket = 100
	}
	m.l.probe = m.rng.IntN(8) == 0
	if m.v == V5 {
		m.limit = min(m.limit, m.o.cfg.inflight5)
	} else {
		m.limit = m.o.cfg.inflight3
	}
	if !present {
		if m.disk != nil {
			m.disk.unsaved = true
		}
		m.session++
		clear(m.open)
		clear(m.exchanges)
		clear(m.released)
	}
	clear(m.linkOpen)
	clear(m.strangers)
	m.last12, m.lastRec, m.asleep = -1, 0, false
	m.logf("up %d present %v limit %d probe %v", m.no, present, m.limit, m.l.probe)
	m.o.up(&m.l.sender, present, 0, func() {
		for range m.rng.IntN(3) {
			m.controls++
			m.o.sendControl(testControl(&m.answered, &m.ctlDropped))
		}
	})
	m.o.endSilence(&m.l.sender)
}

func (m *outModel) cut() {
	if m.writing != nil {
		var err error
		if m.rng.IntN(2) == 0 {
			err = errors.New("connection reset")
		}
		m.done(err)
	}
	m.logf("cut")
	m.closedForWrongAcks()
	l := m.l
	m.o.down(&l.sender, errors.New("cut"))
	m.l = nil
	m.pending = m.pending[:0]
	m.cutControls()
	if m.rng.IntN(4) == 0 && !m.calm {
		l.probe = true
		if v := m.o.judgeDeath(&l.sender, true, 1); v.aside {
			m.logf("set aside %d", v.id)
		}
	}
}

// cutControls frees the identifiers of SUBSCRIBEs, which end with the link.
func (m *outModel) cutControls() {
	for id, x := range m.open {
		if x == any(codec.SUBSCRIBE) {
			delete(m.open, id)
		}
	}
}

// check checks what holds after every step.
func (m *outModel) check() {
	w := &m.o.win
	if w.quota < 0 || w.quota > w.limit {
		m.failf("quota %d of %d", w.quota, w.limit)
	}
	over := m.o.accepted > m.o.cfg.messages || m.o.bytes > m.o.cfg.bytes
	if m.disk != nil && m.disk.crashes > 0 {
		over = false // what was not yet deleted came back
	}
	if m.o.accepted < 0 || m.o.bytes < 0 || over {
		m.failf("accepted %d, %d bytes, limits %d and %d", m.o.accepted, m.o.bytes, m.o.cfg.messages, m.o.cfg.bytes)
	}
	if n := w.order.n + w.released.n + w.aside.n; w.ids.n < n {
		m.failf("%d identifiers for %d exchanges", w.ids.n, n)
	}
	if m.disk != nil {
		m.disk.checkCounts(m)
	}
	live := m.live[:0]
	for _, p := range m.live {
		if p.fut.Err() == ErrPending {
			live = append(live, p)
		} else {
			m.resolvedNow(p)
		}
	}
	m.live = live
	for _, p := range m.reading {
		if p.resolved {
			m.failf("%v resolved while the writer reads its payload", p)
		}
	}
	m.checkFlushes()
}

func (m *outModel) checkFlushes() {
	kept := m.flushes[:0]
	for _, f := range m.flushes {
		select {
		case <-f.done:
			for _, p := range f.pubs {
				if !p.resolved {
					m.failf("Flush is through, %v is not", p)
				}
			}
		default:
			kept = append(kept, f)
		}
	}
	m.flushes = kept
}

// resolvedNow checks the outcome of p.
func (m *outModel) resolvedNow(p *modelPub) {
	p.resolved = true
	err := p.fut.Err()
	m.logf("resolved %v: %v", p, err)
	if err == nil {
		if p.delivered == 0 || p.qos > 0 && !p.acked {
			m.failf("%v is nil, delivered %d, acked %v", p, p.delivered, p.acked)
		}
		return
	}
	e, ok := errors.AsType[*PublishError](err)
	if !ok {
		m.failf("%v failed with %T", p, err)
	}
	if !e.MayHaveArrived && p.delivered > 0 {
		m.failf("%v: %v, but the broker has it", p, err)
	}
	if e.MayHaveArrived && m.no == 0 {
		m.failf("%v: %v, but there was no link", p, err)
	}
	if m.disk != nil && !e.Kept && m.disk.has(fmt.Sprintf("t%d", p.n)) {
		m.failf("%v: %v, but the store has it", p, err)
	}
	if p.acked && !errors.Is(err, ErrWrongAck) {
		m.failf("%v was acknowledged and failed: %v", p, err)
	}
	if _, nack := errors.AsType[*ReasonError](err); nack && !p.nacked {
		m.failf("%v was not refused: %v", p, err)
	}
	if errors.Is(err, ErrCanceled) && !p.canceled || errors.Is(err, ErrWrongAck) != p.wrong {
		m.failf("%v, answered wrongly %v: %v", p, p.wrong, err)
	}
}

// quiesce lets everybody who is awake work until all sleep, and checks that
// nothing that could move is left.
func (m *outModel) quiesce() {
	m.logf("quiesce")
	for range 1000 {
		busy := m.disk != nil && m.disk.work(m)
		m.turn()
		m.wrote()
		m.write()
		if m.l != nil && m.l.killed() {
			m.cut()
		}
		// By the turn, or by what the writer let go of: a committer that runs looks once more.
		busy = busy || m.disk != nil && (!m.o.keep.next.empty() || len(m.o.keep.ends) > 0)
		if !busy && m.writing == nil && (m.asleep || m.l == nil) && len(m.o.kick) == 0 && (m.l == nil || len(m.l.work) == 0) {
			break
		}
	}
	m.check()
	o := m.o
	if h := o.waiters.head; h != nil && o.fits(h.cost) {
		m.failf("a publisher waits though there is room")
	}
	if len(o.resolved) > 0 || len(o.inbox) > 0 {
		m.failf("%d to resolve, %d acknowledgements left", len(o.resolved), len(o.inbox))
	}
	if m.disk != nil && len(o.keep.ends)+len(o.keep.gaps) > 0 {
		m.failf("%d ends and %d gaps wait for the store, which has nothing to do", len(o.keep.ends), len(o.keep.gaps))
	}
	if m.l == nil {
		return
	}
	// On a link that probes one packet awaits its answer at a time, SUBSCRIBEs first.
	unanswered := m.l.probe && o.win.controls+o.win.limit-o.win.quota > 0
	if m.l.probe && (o.win.controls > 1 || o.win.controls+o.win.limit-o.win.quota > 1) {
		m.failf("%d SUBSCRIBEs and %d publishes unanswered on a link that probes", o.win.controls, o.win.limit-o.win.quota)
	}
	if o.win.hold && !unanswered {
		m.failf("publishes are held for nothing")
	}
	switch {
	case m.writing != nil || !m.l.empty():
		m.failf("bytes left")
	case o.q0.n > 0 && !o.win.hold:
		m.failf("QoS 0 left")
	case o.win.rerel != nil || o.win.resend != nil && o.win.quota > 0 && !o.win.hold:
		m.failf("resends left")
	case o.q12.n > 0 && o.numbered.n == 0 && o.win.canAdmit(), o.due() != nil && o.win.canSend() && o.numbered.n > 0:
		m.failf("QoS 1 or 2 left")
	case len(o.ctlWait) > 0 && o.win.freeID() && !unanswered:
		m.failf("control left")
	}
}

// finale ends the run well, or at once, and checks that nothing is left.
func (m *outModel) finale() {
	if m.rng.IntN(3) > 0 {
		m.endWell()
	}
	if m.l != nil {
		m.cut()
	}
	m.logf("shutdown")
	m.o.shutdown(ErrClosed)
	for range 10 {
		m.turn()
	}
	m.check()
	m.checkEmpty()
	if m.o.win.ids.n != 0 {
		m.failf("%d identifiers taken after the end", m.o.win.ids.n)
	}
	if m.controls != m.answered+m.ctlDropped {
		m.failf("%d controls, %d answered, %d dropped", m.controls, m.answered, m.ctlDropped)
	}
}

func (m *outModel) endWell() {
	m.calm = true
	for range 200 {
		if m.l == nil {
			m.up(true)
		}
		m.deliver(1000)
		m.quiesce()
		if m.l != nil && m.o.accepted == 0 && len(m.pending) == 0 && m.o.win.ids.n == m.o.win.aside.n && m.o.waiters.n+len(m.o.ctlWait) == 0 {
			break
		}
		// Identifiers all set aside, a window full of them: only a new session helps.
		if m.l != nil && m.o.win.aside.n == int(m.o.win.maxID) {
			m.cut()
			m.up(false)
		}
	}
	if m.o.win.ids.n != m.o.win.aside.n {
		m.failf("%d identifiers taken, %d set aside", m.o.win.ids.n, m.o.win.aside.n)
	}
	m.checkEmpty()
	if m.disk != nil {
		m.disk.check(m)
	}
}

func (m *outModel) checkEmpty() {
	o := m.o
	if o.accepted != 0 || o.bytes != 0 || o.q0.n+o.numbered.n+o.q12.n+o.waiters.n+o.ending.n+o.win.inflight() != 0 || len(o.ctlWait) != 0 {
		m.failf("left: accepted %d, %d bytes, queues %d %d, waiting %d, ending %d, inflight %d, controls %d",
			o.accepted, o.bytes, o.q0.n, o.q12.n, o.waiters.n, o.ending.n, o.win.inflight(), len(o.ctlWait))
	}
	if len(m.live) > 0 {
		m.failf("%d Futures unresolved: %v", len(m.live), m.live)
	}
	if len(m.flushes) > 0 {
		m.failf("%d Flushes not through", len(m.flushes))
	}
	if o.stats.dropped != m.dropped {
		m.failf("%d dropped, %d told", o.stats.dropped, m.dropped)
	}
	n := 0
	for r := o.free; r != nil && n <= o.nfree; r = r.next {
		n++
	}
	if n != o.nfree {
		m.failf("free list of %d records, %d counted", n, o.nfree)
	}
}
