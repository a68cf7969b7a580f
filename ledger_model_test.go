package mqtt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/internal/chance"
)

// The model of the way in: the ledger beside a server that sends and a plain
// list of what arrived on this link, under random arrivals, redeliveries,
// acknowledgements by the application, PUBRELs, cuts and lost sessions. What must
// hold at every step:
//
//   - PUBACKs leave in the order of the PUBLISHes of this link [MQTT-4.6.0-2],
//     PUBRECs likewise [MQTT-4.6.0-3]; each as soon as it and all before it are
//     done, exactly one for each arrival, redeliveries on a live link left out;
//   - a redelivery is recognised by identifier, DUP and
//     content while an acknowledgement is owed, by identifier alone after PUBREC;
//     at QoS 2 on the same link without DUP too;
//   - Ack is nil once for each subscription, then ErrAcked; it is ErrStale after
//     a lost session, and when another message took the identifier;
//   - what is open, or was replaced and has its place in the order, counts towards our
//     Receive Maximum once, and never more than it;
//   - nothing is paid to a link that is gone; at the end nothing is open.

func TestLedgerModel(t *testing.T) {
	runSeeds(t, func(seed uint64, trace bool) (string, error) { return runLedgerModel(seed, trace) })
}

// modelMsg is an inbound message as the server and the application know it.
type modelMsg struct {
	id    uint16
	qos   QoS
	hash  uint64
	gen   generation
	left  []*owner // owners that have not acknowledged it
	had   []*owner
	paid  bool // PUBREC paid, PUBREL awaited
	void  bool // its identifier went to another message, or the session is lost
	over  bool // its exchange has ended
	count bool // counts on this link

	session  uint32
	replaced *modelMsg // the one whose identifier it took
}

func (x *modelMsg) done() bool { return len(x.left) == 0 }

type ledgerModel struct {
	rng     *rand.Rand
	tracing bool
	trace   []string

	g       *ledger
	v       Version
	link    uint32
	dead    bool // pay finds no link
	maximum int
	subs    []*owner

	open    map[uint16]*modelMsg // the server's session
	orders  [2][]*modelMsg       // arrivals of this link that await their acknowledgement
	history []*modelMsg
	hashes  uint64
	session uint32

	want, got []sentPacket
}

func (m *ledgerModel) failf(format string, args ...any) {
	panic(modelFault(fmt.Sprintf(format, args...)))
}

func (m *ledgerModel) logf(format string, args ...any) {
	if m.tracing {
		m.trace = append(m.trace, fmt.Sprintf(format, args...))
	}
}

func runLedgerModel(seed uint64, tracing bool) (trace string, err error) {
	m := &ledgerModel{rng: chance.Stream(seed, 2), tracing: tracing, open: map[uint16]*modelMsg{}}
	defer func() {
		if r := recover(); r != nil {
			trace, err = strings.Join(m.trace, "\n"), fmt.Errorf("%v", r)
		}
	}()
	m.v = []Version{V31, V311, V5, V5}[m.rng.IntN(4)]
	for range 3 {
		m.subs = append(m.subs, &owner{})
	}
	m.g = &ledger{pay: m.pay}
	m.up(false)
	for range 60 + m.rng.IntN(200) {
		m.step()
		m.check()
	}
	m.finale()
	return "", nil
}

// pay is outbound's: it takes acknowledgements for the link that is up.
func (m *ledgerModel) pay(link uint32, packets []byte) bool {
	if m.dead || link != m.link {
		return false
	}
	m.got = append(m.got, parseSent(m.v, packets)...)
	return true
}

func (m *ledgerModel) step() {
	switch n := m.rng.IntN(100); {
	case n < 35:
		m.arriveNew()
	case n < 45:
		m.redeliver()
	case n < 75:
		m.ack()
	case n < 85:
		m.settle()
	case n < 93:
		m.release()
	case n < 94:
		m.abandon()
	case n < 95:
		m.transfer()
	case n < 97:
		m.cut()
	default:
		m.dead = m.rng.IntN(2) == 0 && m.dead
	}
}

// anyID is one of a few identifiers.
func (m *ledgerModel) anyID() uint16 { return uint16(1 + m.rng.IntN(12)) }

func (m *ledgerModel) counted() (n int) {
	for _, x := range m.open {
		if x.count {
			n++
		}
	}
	for _, order := range m.orders {
		for _, x := range order {
			if x.void && x.count {
				n++ // replaced: until it leaves the order
			}
		}
	}
	return n
}

func (m *ledgerModel) arriveNew() {
	if m.dead {
		return
	}
	id, qos := m.anyID(), QoS(1+m.rng.IntN(2))
	old := m.open[id]
	dup := m.rng.IntN(8) == 0
	if old != nil && (m.rng.IntN(4) > 0 || old.paid && old.qos == qos) {
		return // most servers never do that
	}
	m.hashes++
	x := &modelMsg{id: id, qos: qos, hash: m.hashes}
	for _, s := range m.subs {
		if m.rng.IntN(2) == 0 {
			x.left = append(x.left, s)
		}
	}
	x.had = slices.Clone(x.left)
	if old != nil {
		old.void, old.over = true, true
		delete(m.open, id)
	}
	full := m.exceeded()
	kind, gen := m.g.arrive(inbound(id, qos, dup), x.hash, time.Time{}, x.left)
	m.logf("new %d q%d dup %v for %d: %v", id, qos, dup, len(x.left), kind)
	m.compare()
	if full {
		if kind != arrivedOver {
			m.failf("arrival above our Receive Maximum was %v", kind)
		}
		m.cut() // the link ends
		return
	}
	if kind != arrivedNew {
		m.failf("a new message was taken for %v", kind)
	}
	if gen == 0 {
		m.failf("generation 0")
	}
	x.gen, x.count, x.session = gen, true, m.session
	if old != nil && !old.done() {
		x.replaced = old
	}
	m.open[id] = x
	m.history = append(m.history, x)
	m.orders[qos-1] = append(m.orders[qos-1], x)
}

// exceeded reports whether one message more is beyond our Receive Maximum, with
// everything acknowledged whose turn has come.
func (m *ledgerModel) exceeded() bool {
	over := func() bool { return m.maximum > 0 && m.counted() >= m.maximum }
	if over() {
		m.expectDue()
	}
	return over()
}

// pick picks an open message in a fixed order, nil when there is none.
func (m *ledgerModel) pick() *modelMsg {
	for range 12 {
		if x := m.open[m.anyID()]; x != nil {
			return x
		}
	}
	return nil
}

// redeliver sends an open message once more, on this link or a later one.
func (m *ledgerModel) redeliver() {
	x := m.pick()
	if x == nil || m.dead {
		return
	}
	bare := x.paid && m.v != V31 || !x.paid && x.qos == 2 && slices.Contains(m.orders[1], x)
	dup := !(bare && m.rng.IntN(3) == 0)
	full := !x.count && m.exceeded()
	hash := x.hash
	if x.paid {
		hash++ // by identifier alone
	}
	kind, _ := m.g.arrive(inbound(x.id, x.qos, dup), hash, time.Time{}, x.had)
	m.logf("again %d q%d: %v", x.id, x.qos, kind)
	m.compare()
	if full {
		if kind != arrivedOver {
			m.failf("redelivery above our Receive Maximum was %v", kind)
		}
		m.cut()
		return
	}
	if kind != arrivedAgain {
		m.failf("a redelivery was taken for %v", kind)
	}
	x.count = true
	if !slices.Contains(m.orders[x.qos-1], x) {
		m.orders[x.qos-1] = append(m.orders[x.qos-1], x)
	}
}

// ack is an Ack by the application, for messages of any age.
func (m *ledgerModel) ack() {
	if len(m.history) == 0 {
		return
	}
	x := m.history[max(0, len(m.history)-1-m.rng.IntN(20))]
	s := m.subs[m.rng.IntN(len(m.subs))]
	err := m.g.done(x.gen, x.id, s)
	at := slices.Index(x.left, s)
	m.logf("done %d gen %d: %v", x.id, x.gen, err)
	replacing := m.open[x.id]
	switch {
	case x.session != m.session:
		if !errors.Is(err, ErrStale) {
			m.failf("Ack of a lost session's message: %v", err)
		}
	case x.void && at >= 0 && replacing != nil && replacing.replaced == x:
		if !errors.Is(err, ErrStale) {
			m.failf("Ack of a replaced message: %v", err)
		}
	case at >= 0 && !x.over:
		if err != nil {
			m.failf("Ack: %v", err)
		}
		x.left = slices.Delete(x.left, at, at+1)
	case !x.void && !errors.Is(err, ErrAcked), err == nil:
		m.failf("a second Ack: %v", err)
	}
}

// settle expects the acknowledgements whose turn has come.
func (m *ledgerModel) settle() {
	m.logf("settle, dead %v", m.dead)
	if !m.dead {
		m.expectDue()
	}
	m.g.payAcks()
	m.compare()
}

func (m *ledgerModel) expectDue() {
	for i, t := range []codec.Type{codec.PUBACK, codec.PUBREC} {
		m.expectOrder(i, t)
	}
}

func (m *ledgerModel) expectOrder(i int, t codec.Type) {
	q := m.orders[i]
	for ; len(q) > 0 && (q[0].over || q[0].done()); q = q[1:] {
		x := q[0]
		if x.over {
			continue
		}
		m.want = append(m.want, sentPacket{typ: t, id: x.id})
		if x.qos == 2 {
			x.paid = true
			continue
		}
		x.over = true
		delete(m.open, x.id)
	}
	m.orders[i] = q
}

// compare compares what was paid with what is owed.
func (m *ledgerModel) compare() {
	ok := slices.EqualFunc(m.want, m.got, func(a, b sentPacket) bool {
		return a.typ == b.typ && a.id == b.id && a.code == b.code
	})
	if !ok {
		m.failf("paid %v, owed %v", m.got, m.want)
	}
	m.want, m.got = m.want[:0], m.got[:0]
}

// release is a PUBREL, for an exchange that awaits it or for none.
func (m *ledgerModel) release() {
	m.settle() // as the reader does
	id := m.anyID()
	x := m.open[id]
	if x != nil && x.qos == 2 && !x.paid {
		return // a server does not send it before PUBREC
	}
	m.g.pubrel(id)
	m.logf("PUBREL %d", id)
	if !m.dead {
		want := sentPacket{typ: codec.PUBCOMP, id: id}
		if (x == nil || x.qos != 2) && m.v == V5 {
			want.code = codec.PacketIdentifierNotFound
		}
		m.want = append(m.want, want)
		if x != nil && x.qos == 2 {
			x.over = true
			delete(m.open, id)
		}
	}
	m.compare()
}

// abandon finishes with everything of one subscription.
func (m *ledgerModel) abandon() {
	s := m.subs[m.rng.IntN(len(m.subs))]
	want := 0
	for _, x := range m.open {
		if at := slices.Index(x.left, s); at >= 0 {
			x.left = slices.Delete(x.left, at, at+1)
			want++
		}
	}
	m.logf("abandon %d", want)
	if n := m.g.abandon(s); n != want {
		m.failf("abandoned %d, had %d", n, want)
	}
	if m.g.hasUnfinished(s) {
		m.failf("owes after abandon")
	}
}

// transfer moves what one subscription has to finish with to another.
func (m *ledgerModel) transfer() {
	x := m.pick()
	if x == nil || x.done() {
		return
	}
	to := m.subs[m.rng.IntN(len(m.subs))]
	if slices.Contains(x.left, to) {
		return
	}
	m.logf("transfer %d gen %d", x.id, x.gen)
	m.g.transfer(x.gen, x.id, x.left[0], to)
	x.left[0] = to
}

// cut ends the link; the next is up at once, or stays dead for a while.
func (m *ledgerModel) cut() {
	m.dead = true
	m.settle() // what is due now is owed on the next link
	m.up(m.rng.IntN(4) > 0)
}

func (m *ledgerModel) up(present bool) {
	m.link++
	m.dead = m.rng.IntN(10) == 0
	m.maximum = 0
	if m.v == V5 {
		m.maximum = 1 + m.rng.IntN(10)
	}
	m.logf("up %d present %v maximum %d dead %v", m.link, present, m.maximum, m.dead)
	for _, x := range m.open {
		x.count = false
		if !present {
			x.void, x.over = true, true
		}
	}
	if !present {
		clear(m.open)
		m.session++
	}
	m.orders = [2][]*modelMsg{}
	m.g.up(m.link, m.v, present, m.maximum)
}

func (m *ledgerModel) check() {
	if n := m.counted(); m.g.open != n {
		m.failf("%d count towards Receive Maximum, want %d", m.g.open, n)
	}
	if m.g.table.Len() != len(m.open) {
		m.failf("%d entries, server has %d open", m.g.table.Len(), len(m.open))
	}
}

// finale lets the server send again all that is open, acknowledges everything,
// and checks that each is answered once and nothing is left.
func (m *ledgerModel) finale() {
	m.cut()
	m.dead = false
	for id := uint16(1); id <= 12; id++ {
		if x := m.open[id]; x != nil && (m.maximum == 0 || m.counted() < m.maximum || x.count) {
			m.g.arrive(inbound(id, x.qos, true), x.hash, time.Time{}, nil)
			x.count = true
			m.orders[x.qos-1] = append(m.orders[x.qos-1], x)
		}
	}
	for _, s := range m.subs {
		m.g.abandon(s)
	}
	for _, x := range m.open {
		x.left = nil
	}
	m.settle()
	for id := uint16(1); id <= 12; id++ {
		if x := m.open[id]; x != nil && x.paid {
			m.g.pubrel(id)
			delete(m.open, id)
		}
	}
	m.got = m.got[:0]
	m.check()
	m.up(false)
	if m.g.table.Len() != 0 || m.g.open != 0 || m.g.orders[0].n+m.g.orders[1].n != 0 {
		m.failf("left: %d entries, %d open", m.g.table.Len(), m.g.open)
	}
}
