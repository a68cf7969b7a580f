package mqtt

import (
	"errors"
	"fmt"

	"github.com/millrace/mqtt/codec"
)

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
	for _, r := range b.inWrite {
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
	r := m.o.win.ids.Get(f.id)
	if len(m.o.inbox) > 0 {
		return // what the identifier stands for is about to change
	}
	switch {
	case r == nil:
		if f.typ == codec.PUBREC {
			m.strangers[f.id]++
		}
	case (r.state == recSent || r.state == recReleased) && r.sentOnLink != m.l.no:
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
			m.o.sendControlLocked(testControl(&m.answered, &m.ctlDropped))
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
		if v := m.o.judgeDeath(&l.sender, true, 1); v.quarantined {
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
