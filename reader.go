package mqtt

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"time"

	"github.com/millrace/mqtt/codec"
)

// reader is what the reading goroutine of a link owns.
type reader struct {
	l      *link
	topics topicTable
	slab   []byte // payloads are cut from it
	acks   []ackFact
	now    time.Time // of this batch
	seed   maphash.Seed
	owes   bool            // some acknowledgement may be due at the end of the batch
	over   *Subscription   // a subscription above its limit, found in this packet
	chosen []*Subscription // who gets the current message
	flags  []uint32        // and with which flags
}

// read is the reader goroutine: it takes what the socket has, decodes as many
// packets as there are, drives ledger and routes, and never waits for the
// writer, the window or a user, but for the one exception of "decided" 10. It
// ends when the socket does, and returns why.
func (l *link) read() error {
	r := &reader{l: l, seed: l.conn.seed}
	for {
		if err := r.batch(); err != nil {
			return err
		}
		if l.killed() {
			return l.cause
		}
		_, err := l.framer.Fill(l.nc)
		if err != nil {
			// What came before the end still counts.
			if more := r.batch(); more != nil {
				return more
			}
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		l.received.Store(l.since())
	}
}

// batch handles every whole packet that is there.
func (r *reader) batch() error {
	defer r.settle()
	r.now = time.Now()
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

// settle hands on what the batch gathered.
func (r *reader) settle() {
	if len(r.acks) > 0 {
		r.l.conn.out.acks(r.l, r.acks)
		clear(r.acks)
		r.acks = r.acks[:0]
	}
	if r.owes {
		r.owes = false
		r.l.conn.ledger.settle()
	}
}

// protocolFault makes the codec's error the cause of the link's end.
func protocolFault(err error) error {
	if e, ok := errors.AsType[*codec.Error](err); ok {
		return &ProtocolError{Code: e.Code, Detail: e.Error(), Err: err}
	}
	return err
}

// packet handles one packet.
func (r *reader) packet(f *codec.Frame) error {
	if h := r.l.conn.cfg.hook; h != nil {
		info := PacketInfo{Type: f.Type, Size: f.Size, Link: r.l.no}
		info.identify(f.Type, f.Flags, f.Body)
		h(info)
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
		return protocolFault(err)
	}
	if p.TopicAlias != 0 {
		return &ProtocolError{Code: codec.TopicAliasInvalid, Detail: "topic alias above our maximum of 0 [MQTT-3.1.2-27]"}
	}
	t := r.topics.get(p.Topic)
	if t == nil {
		if err := codec.CheckTopicName(p.Topic); err != nil {
			return r.badTopic(&p, err)
		}
		t = r.topics.put(p.Topic)
	}
	if r.l.conn.draining.Load() {
		return nil // the server keeps it, or sends it again
	}
	t.refresh(r.l.conn.routes)
	r.choose(t, &p)
	return r.hand(t, &p)
}

// badTopic ends the link because of a malformed topic ("decided" 8).
func (r *reader) badTopic(p *codec.PublishView, err error) error {
	code := codec.MalformedPacket
	if e, ok := errors.AsType[*codec.Error](err); ok {
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

// hand gives the message to the chosen subscriptions.
func (r *reader) hand(t *topicEntry, p *codec.PublishView) error {
	c := r.l.conn
	var ref uint32
	if p.QoS > 0 {
		hash := maphash.Bytes(r.seed, p.Payload) ^ maphash.String(r.seed, t.topic)
		a, gen := c.ledger.arrive(p.PacketID, QoS(p.QoS), p.Dup, hash, t.topic, r.now, r.chosen)
		r.owes = true
		switch a {
		case arrivedAgain:
			c.stats.duplicates.Add(1)
			return nil
		case arrivedOver:
			return &ProtocolError{Code: codec.ReceiveMaximumExceeded, Detail: "more QoS 1 and 2 messages under way than our Receive Maximum [MQTT-3.3.4-9]"}
		}
		ref = gen << refShift
	}
	c.stats.received.Add(1)
	if len(r.chosen) == 0 {
		if len(t.targets) == 0 {
			c.unmatched(t.topic)
		}
		return nil // else a copy that its subscription has or gets by another filter
	}
	if p.Dup {
		ref |= flagDup
	}
	for i, s := range r.chosen {
		r.deliver(s, &Message{
			Topic: t.topic, Payload: r.own(p.Payload), Properties: messageProperties(p),
			sub: s, ref: ref | r.flags[i], id: p.PacketID, QoS: QoS(p.QoS),
		})
	}
	if r.over == nil {
		return nil
	}
	return r.backPressure()
}

// deliver brings m to s and notes what follows for its acknowledgement.
func (r *reader) deliver(s *Subscription, m *Message) {
	c := r.l.conn
	switch f := s.deliver(m, r.l.version); {
	case f == fateGone && m.QoS > 0, f == fateHanded && m.QoS > 0 && !m.sub.opts.manual:
		c.ledger.done(m.ref>>refShift, m.id, m.sub)
	case f == fateOver:
		r.over = m.sub
	}
}

// own copies a payload out of the read buffer: small ones from a slab that
// several messages share.
func (r *reader) own(p []byte) []byte {
	if len(p) == 0 {
		return nil
	}
	if len(p) > readSlab/8 {
		return append([]byte(nil), p...)
	}
	if len(r.slab)+len(p) > cap(r.slab) {
		r.slab = make([]byte, 0, readSlab)
	}
	at := len(r.slab)
	r.slab = append(r.slab, p...)
	return r.slab[at:len(r.slab):len(r.slab)]
}

const readSlab = 8 << 10

// choose fills in who gets the message: by subscription identifier where the
// server sent one of ours whose filter matches, else everyone who matches.
func (r *reader) choose(t *topicEntry, p *codec.PublishView) {
	r.chosen, r.flags = r.chosen[:0], r.flags[:0]
	switch {
	case len(t.targets) == 1 && !p.Retain:
		// The one that matches gets it, whatever the identifiers say.
		r.chosen, r.flags = append(r.chosen, t.targets[0].sub), append(r.flags, 0)
	case len(t.targets) == 0:
		r.catchAll(p)
	case p.SubIDs > 0 && r.byIdentifier(t, p):
	default:
		r.byFilter(t, p)
	}
}

// byFilter chooses everyone who matches. When several filters do, the server may
// send a copy for each, and each copy comes here.
func (r *reader) byFilter(t *topicEntry, p *codec.PublishView) {
	for i := range t.targets {
		if t.targets[i].single {
			r.add(&t.targets[i], p)
		}
	}
	if t.routes > 1 {
		r.l.conn.stats.suspected.Add(1)
	}
}

// byIdentifier chooses by subscription identifier, and reports whether any of
// the identifiers is that of a matching filter of ours. A subscription with
// several filters takes one copy: that of its primary target.
func (r *reader) byIdentifier(t *topicEntry, p *codec.PublishView) bool {
	found := false
	for i := range t.targets {
		tg := &t.targets[i]
		if tg.subID == 0 || !r.carries(p, tg.subID) {
			continue
		}
		found = true
		switch {
		case tg.primary:
			t.settled(tg.sub)
		case !tg.former:
			continue
		}
		if !slices.Contains(r.chosen, tg.sub) {
			r.add(tg, p)
		}
	}
	return found
}

func (r *reader) carries(p *codec.PublishView, id uint32) bool {
	if p.SubIDs == 1 {
		return p.SubID == id
	}
	for got := range p.Props.SubscriptionIDs() {
		if got == id {
			return true
		}
	}
	return false
}

// add chooses tg, unless the message is a retained copy that is meant for
// another subscription of the same filter.
func (r *reader) add(tg *target, p *codec.PublishView) {
	retained := p.Retain && !tg.asPub
	if retained && tg.others && !tg.fresh {
		return
	}
	var flags uint32
	if p.Retain {
		flags |= flagRetained
	}
	if retained && tg.replay && !tg.fresh {
		flags |= flagReplay
	}
	r.chosen = append(r.chosen, tg.sub)
	r.flags = append(r.flags, flags)
}

// catchAll chooses the catch-all subscription, for what matches no filter.
func (r *reader) catchAll(p *codec.PublishView) {
	s := r.l.conn.routes.catchAll()
	if s == nil {
		return
	}
	var flags uint32
	if p.Retain {
		flags = flagRetained
	}
	r.chosen, r.flags = append(r.chosen, s), append(r.flags, flags)
}

// backPressure does what "decided" 10 says when a subscription is above its
// limit: it is evicted, or the link is not read until it made room, lost its
// patience, or the link ends.
func (r *reader) backPressure() error {
	s := r.over
	r.over = nil
	l := r.l
	c := l.conn
	if s.opts.slow == SlowEvict {
		c.evict(s)
		return nil
	}
	select {
	case <-c.lift:
		return nil
	default:
	}
	r.settle()
	c.events.emit(SlowConsumer{Filter: s.name(), Pending: s.Stats().Pending, Dropped: s.dropped.Load(), Started: true, Paused: true})
	l.paused.Store(true)
	defer l.paused.Store(false)
	timer := time.NewTimer(c.cfg.stuckAfter)
	defer timer.Stop()
	_, last := s.roomFor()
	for {
		room, moves := s.roomFor()
		select {
		case <-room:
			l.received.Store(l.since())
			return nil
		case <-timer.C:
		case <-c.lift:
			return nil
		case <-l.dead:
			return l.cause
		}
		if _, now := s.roomFor(); now == last && s.opts.slow != SlowBlock {
			c.evict(s)
			return nil
		}
		last = moves
		timer.Reset(c.cfg.stuckAfter)
	}
}

// oversize acknowledges a 3.x message above our limit, or it would come back
// for ever; it was read past without being kept (CLAUSES.md Part B).
func (r *reader) oversize(f *codec.Frame) error {
	c := r.l.conn
	topic, id, ok := publishHead(f)
	qos := QoS(f.Flags >> 1 & 3)
	if !ok || qos > 2 || qos > 0 && id == 0 {
		return &ProtocolError{Code: codec.MalformedPacket, Detail: "PUBLISH that ends inside its topic or packet identifier, or has a bad one"}
	}
	if c.draining.Load() {
		return nil // the server keeps it
	}
	if qos > 0 {
		c.ledger.arrive(id, qos, f.Flags&8 != 0, 0, topic, r.now, nil)
		r.owes = true
	}
	c.tooLarge(topic, f.Size)
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

// ack handles PUBACK, PUBREC, PUBREL and PUBCOMP.
func (r *reader) ack(f *codec.Frame) error {
	var a codec.Ack
	if err := a.Decode(r.l.version, f.Type, f.Body); err != nil {
		return protocolFault(err)
	}
	if f.Type == codec.PUBREL {
		r.settle() // PUBRECs that are due leave first
		r.l.conn.ledger.released(a.PacketID)
		return nil
	}
	fact := ackFact{typ: f.Type, id: a.PacketID, code: a.Code}
	if len(a.Props) > 0 {
		var p codec.Properties
		a.Props.Decode(&p)
		fact.answer = &answer{p.ReasonString, p.User}
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

func newAnswer(p *codec.Properties) *answer {
	if p == nil {
		return nil
	}
	return &answer{p.ReasonString, p.User}
}

// errDisconnect3 is behind the ProtocolError for a server's DISCONNECT on 3.x. It
// announces a close (mochi sends it when it is shut down), so that it says
// nothing about a message that B10 would have to guard against.
var errDisconnect3 = errors.New("mqtt: a server has no DISCONNECT on MQTT 3.x")

// disconnect handles a DISCONNECT by the server.
func (r *reader) disconnect(f *codec.Frame) error {
	if r.l.version != V5 {
		return &ProtocolError{Code: codec.ProtocolError, Detail: "DISCONNECT from a 3.x server", Err: errDisconnect3}
	}
	var p codec.Disconnect
	if err := p.Decode(r.l.version, f.Body); err != nil {
		return protocolFault(err)
	}
	e := &ReasonError{Packet: codec.DISCONNECT, Version: V5, Code: p.Code}
	if p.Props != nil {
		if p.Props.Has(codec.PropSessionExpiryInterval) {
			return &ProtocolError{Code: codec.ProtocolError, Detail: "DISCONNECT by the server with a Session Expiry Interval [MQTT-3.14.2-2]"}
		}
		e.Reason, e.User, e.ServerReference = p.Props.ReasonString, p.Props.User, p.Props.ServerReference
	}
	return e
}
