package mqtt

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"time"

	"github.com/millrace/mqtt/codec"
)

// reader is what the reading goroutine of a link owns.
type reader struct {
	l          *link
	topics     *topicTable
	slab       []byte // payloads are cut from it
	acks       []ackFact
	now        time.Time // of the last read
	acksDue    bool      // some acknowledgement may be due when what was read is handled
	current    batch
	recipients []*Subscription // that get the current message
	owners     []*owner        // the same, for the ledger
	flags      []uint32        // and with which flags
	chosen     []bool          // by canonical target: whether the current message is picked for it
}

// read is the reader goroutine: it takes what the socket has, decodes as many
// packets as there are, drives ledger and routes, and never waits for the
// writer, the window or a user, but for a subscription above its limit (see
// [reader.backPressure]). It ends when the socket does, and returns why.
func (l *link) read() error {
	r := &reader{l: l, topics: l.session.topicsOf(l.agreed.sessionPresent)}
	defer func() { l.session.topics.Store(r.topics) }()
	for {
		if err := r.handleAll(); err != nil {
			return l.endedBy(r.unread(err))
		}
		if l.killed() || !l.reads.enter() {
			return l.cause
		}
		_, err := l.framer.Fill(l.nc)
		if !l.reads.leave() || l.killed() && blamesServer(l.cause) {
			return l.cause // what comes behind a fault of the server's is thrown away
		}
		if err != nil {
			// Packets that came before the end still count.
			if more := r.handleAll(); more != nil {
				err = more
			}
			if errors.Is(err, io.EOF) {
				err = streamEnd(l.nc)
			}
			return l.endedBy(err)
		}
		l.received.Store(l.since())
	}
}

// handleAll handles every whole packet that is there.
func (r *reader) handleAll() error {
	r.l.handling.Store(true)
	defer r.endHandling()
	r.now = time.Now()
	err := r.eachPacket()
	// Packets that came before an error still count.
	if e := r.flush(); err == nil {
		err = e
	}
	r.handOnAcks()
	return err
}

// eachPacket handles the packets one by one.
func (r *reader) eachPacket() error {
	for {
		f, ok, err := r.l.framer.Next()
		if err != nil {
			return protocolFault(err)
		}
		if !ok {
			return nil
		}
		if err := r.packet(&f); err != nil {
			return err
		}
	}
}

// packet handles one packet.
func (r *reader) packet(f *codec.Frame) error {
	if h := &r.l.session.hooks; h.hook != nil {
		h.received(r.l.version, r.l.no, f)
	}
	if r.l.ignoring.Load() && (f.Type == codec.PUBLISH || f.Type == codec.PUBREL && r.l.disconnecting()) {
		return nil // the server keeps it: our DISCONNECT is on its way
	}
	switch f.Type {
	case codec.PUBLISH:
		return r.publish(f)
	case codec.PUBACK, codec.PUBREC, codec.PUBREL, codec.PUBCOMP:
		return r.ack(f)
	case codec.SUBACK:
		return r.suback(f)
	case codec.UNSUBACK:
		return r.unsuback(f)
	case codec.PINGRESP:
		r.l.pong()
		return nil // any byte counts as life, this one too
	case codec.DISCONNECT:
		return r.disconnect(f)
	}
	return &ProtocolError{Code: codec.ProtocolError, Detail: f.Type.String() + " from a server on a connection that is up"}
}

// publish handles an inbound PUBLISH.
func (r *reader) publish(f *codec.Frame) error {
	if f.Oversize {
		return r.oversize(f)
	}
	var p codec.PublishView
	if err := p.DecodeLayout(r.l.version, f.Flags, f.Body); err != nil {
		return r.faultyPublish(f, protocolFault(err))
	}
	if p.TopicAlias != 0 {
		return r.faultyPublish(f, &ProtocolError{Code: codec.TopicAliasInvalid, Detail: "topic alias above our maximum of 0 [MQTT-3.1.2-27]"})
	}
	t := r.topics.get(p.Topic)
	if t == nil {
		if err := codec.CheckTopicName(p.Topic); err != nil {
			return r.faultyPublish(f, badTopic(&p, err))
		}
		t = r.topics.put(p.Topic)
	}
	if r.l.session.draining.Load() {
		return nil // the server keeps it, or sends it again
	}
	if len(p.Props) > r.l.session.cfg.propertyLimit {
		return r.refuseProperties(t, &p)
	}
	r.topics.refresh(t, r.l.session.routes)
	if p.QoS > 0 && r.l.session.inbox != nil {
		return r.enterInbox(t, &p)
	}
	if len(t.targets) == 1 && !p.Retain {
		// The one that matches gets it, whatever the identifiers say.
		return r.batchTo(t, &p, t.targets[0].sub, 0)
	}
	r.choose(t, &p)
	if len(r.recipients) == 1 {
		return r.batchTo(t, &p, r.recipients[0], r.flags[0])
	}
	return r.fanOut(t, &p)
}

// oversize acknowledges a 3.x message above our limit, or it would come back
// for ever. The framer has read past its payload without keeping it.
func (r *reader) oversize(f *codec.Frame) error {
	s := r.l.session
	topic, id, ok := publishHead(f)
	qos := QoS(f.Flags >> 1 & 3)
	if !ok || qos > 2 || qos > 0 && id == 0 {
		return &ProtocolError{Code: codec.MalformedPacket, Detail: "PUBLISH that ends inside its topic or packet identifier, or has a bad one"}
	}
	if s.draining.Load() {
		return nil // the server keeps it
	}
	if err := r.flush(); err != nil {
		return err // acknowledgements are owed in the order of arrival
	}
	if qos > 0 {
		m := Message{Topic: topic, id: id, QoS: qos}
		if f.Flags&8 != 0 {
			m.ref = flagDup
		}
		s.ledger.arrive(&m, 0, r.now, nil)
		r.acksDue = true
	}
	s.dropOversize(topic, f.Size, &PacketTooLargeError{Size: f.Size, Max: s.cfg.inboundLimit})
	return nil
}

// refuseProperties drops a message with too many properties, and refuses it by the code of
// its acknowledgement. The link goes on: to end it would let any publisher end it.
func (r *reader) refuseProperties(t *topicEntry, p *codec.PublishView) error {
	s := r.l.session
	if err := r.flush(); err != nil {
		return err // acknowledgements are owed in the order of arrival
	}
	if p.QoS > 0 {
		m := Message{Topic: t.topic, id: p.PacketID, QoS: QoS(p.QoS)}
		if p.Dup {
			m.ref = flagDup
		}
		a := s.ledger.refuse(&m, r.hash(t, p), r.now, codec.QuotaExceeded)
		r.acksDue = true
		if a != arrivedNew {
			return r.count(a)
		}
	}
	s.dropOversize(t.topic, len(p.Props), &PropertiesTooLargeError{Size: len(p.Props), Max: s.cfg.propertyLimit})
	return nil
}

// publishHead reads topic and packet identifier of a PUBLISH whose payload was not kept.
func publishHead(f *codec.Frame) (topic string, id uint16, ok bool) {
	b := f.Body
	if len(b) < 2 {
		return "", 0, false
	}
	n := int(b[0])<<8 | int(b[1])
	if len(b) < 2+n {
		return "", 0, false
	}
	topic = string(b[2 : 2+n])
	if f.Flags>>1&3 == 0 {
		return topic, 0, true
	}
	if len(b) < 4+n {
		return "", 0, false
	}
	return topic, uint16(b[2+n])<<8 | uint16(b[3+n]), true
}

// faultyPublish ends the link because of a message that breaks the protocol, by err
// (section 4.13), or passes over the message. One of QoS 1 or 2 comes again on the next
// link, and would end every link of the session. When it can be acknowledged, since the
// packet is whole and its identifier is known, it is passed over once deathLimit young
// links have died of it.
func (r *reader) faultyPublish(f *codec.Frame, err error) error {
	p, ok := errors.AsType[*ProtocolError](err)
	topic, id, whole := publishHead(f)
	qos := QoS(f.Flags >> 1 & 3)
	if !ok || !whole || qos > 2 || qos > 0 && id == 0 {
		return err
	}
	key := faultKey{p.Detail, maphash.String(r.topics.seed, topic)}
	if !r.l.session.faultsToDrop[key] {
		p.Err = &messageFault{key, p.Err}
		return p
	}
	m := Message{Topic: topic, id: id, QoS: qos}
	if f.Flags&8 != 0 {
		m.ref = flagDup
	}
	return r.passOver(&m, maphash.Bytes(r.topics.seed, f.Body), p)
}

// passOver drops m, which breaks the protocol by fault, and owes its acknowledgement.
func (r *reader) passOver(m *Message, hash uint64, fault *ProtocolError) error {
	s := r.l.session
	if s.draining.Load() {
		return nil // the server keeps it
	}
	if err := r.flush(); err != nil {
		return err // acknowledgements are owed in the order of arrival
	}
	if m.QoS > 0 {
		a, _ := s.ledger.arrive(m, hash, r.now, nil)
		r.acksDue = true
		if a != arrivedNew {
			return r.count(a)
		}
	}
	n := s.stats.faulty.Add(1)
	s.emit(FaultyMessage{Topic: quoteBytes([]byte(m.Topic)), PacketID: m.id, QoS: m.QoS, Err: fault, Total: n})
	return nil
}

// badTopic is the error about a malformed topic.
func badTopic(p *codec.PublishView, err error) error {
	code := codec.MalformedPacket
	if e, ok := errors.AsType[*codec.Error](err); ok {
		if e.Code == codec.TopicNameInvalid {
			e.Code = code // that code is for a well-formed name that is not accepted (section 3.14.2.1)
		}
		code = e.Code
	}
	return &ProtocolError{Code: code, Detail: "PUBLISH with the bad topic " + quoteBytes(p.Topic) + ": " + problemOf(err), Err: err}
}

// quoteBytes quotes the first bytes of what came.
func quoteBytes(b []byte) string {
	if len(b) > 64 {
		return fmt.Sprintf("%q...", b[:64])
	}
	return fmt.Sprintf("%q", b)
}

// ack handles PUBACK, PUBREC, PUBREL and PUBCOMP.
func (r *reader) ack(f *codec.Frame) error {
	var a codec.Ack
	if err := a.Decode(r.l.version, f.Type, f.Body); err != nil {
		return protocolFault(err)
	}
	if f.Type == codec.PUBREL {
		if err := r.flush(); err != nil {
			return err
		}
		r.handOnAcks() // PUBRECs that are due leave first
		r.l.session.ledger.pubrel(a.PacketID)
		return nil
	}
	fact := ackFact{typ: f.Type, id: a.PacketID, code: a.Code}
	if len(a.Props) > 0 {
		var p codec.Properties
		a.Props.DecodeFirst(&p, codec.MaxUserProperties)
		fact.answer = newAnswer(&p)
	}
	r.acks = append(r.acks, fact)
	return nil
}

func (r *reader) suback(f *codec.Frame) error {
	var p codec.Suback
	if err := p.Decode(r.l.version, f.Body); err != nil {
		return protocolFault(err)
	}
	r.acks = append(r.acks, ackFact{typ: f.Type, id: p.PacketID, codes: p.Codes, answer: newAnswer(p.Props)})
	return nil
}

func (r *reader) unsuback(f *codec.Frame) error {
	var p codec.Unsuback
	if err := p.Decode(r.l.version, f.Body); err != nil {
		return protocolFault(err)
	}
	r.acks = append(r.acks, ackFact{typ: f.Type, id: p.PacketID, codes: p.Codes, answer: newAnswer(p.Props)})
	return nil
}

// disconnect handles a DISCONNECT by the server.
func (r *reader) disconnect(f *codec.Frame) error {
	if r.l.version != V5 {
		return &ProtocolError{Code: codec.ProtocolError, Detail: "DISCONNECT from a 3.x server", Err: errUnexpectedDisconnect}
	}
	var p codec.Disconnect
	if err := p.Decode(r.l.version, f.Body); err != nil {
		return protocolFault(err)
	}
	if p.Props.Has(codec.PropSessionExpiryInterval) {
		return &ProtocolError{Code: codec.ProtocolError, Detail: "DISCONNECT by the server with a Session Expiry Interval [MQTT-3.14.2-2]", Err: errUnexpectedDisconnect}
	}
	return newReasonError(codec.DISCONNECT, V5, p.Code, p.Props)
}

// handOnAcks hands on the acknowledgements of what was handled, either way.
func (r *reader) handOnAcks() {
	if len(r.acks) > 0 {
		r.l.session.out.acks(&r.l.sender, r.acks)
		clear(r.acks)
		r.acks = r.acks[:0]
	}
	if r.acksDue {
		r.acksDue = false
		r.l.session.ledger.payAcks()
	}
}

// endHandling tells [link.stopReader] that nothing is in hand any more.
func (r *reader) endHandling() {
	r.l.handling.Store(false)
	if r.l.ignoring.Load() && !closed(r.l.handled) {
		close(r.l.handled)
	}
}

// unread takes err, which ends reading before the socket has ended. Behind our
// DISCONNECT the rest is thrown away, whatever it is.
func (r *reader) unread(err error) error {
	if r.l.disconnecting() && r.l.reads.enter() {
		_, _ = io.Copy(io.Discard, r.l.lowest())
		r.l.reads.leave()
	}
	return err
}
