package mqtt

import (
	"errors"
	"hash/maphash"

	"github.com/millrace/mqtt/codec"
)

// A message that breaks the protocol makes us close the link (section 4.13). One of
// QoS 1 or 2 comes again on the next link, and would end every link of the session.
// When it can be acknowledged, since the packet is whole and its identifier is known,
// it is passed over once flapLimit young links have died of it.

// faultyPublish ends the link because of a message that breaks the protocol, by err, or
// passes over the message.
func (r *reader) faultyPublish(f *codec.Frame, err error) error {
	p, ok := errors.AsType[*ProtocolError](err)
	topic, id, whole := publishHead(f)
	qos := QoS(f.Flags >> 1 & 3)
	if !ok || !whole || qos > 2 || qos > 0 && id == 0 {
		return err
	}
	key := faultKey{p.Detail, maphash.String(r.topics.seed, topic)}
	if !r.l.session.passed[key] {
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
		r.owes = true
		if a != arrivedNew {
			return r.count(a)
		}
	}
	n := s.stats.faulty.Add(1)
	s.emit(FaultyMessage{Topic: quoteBytes([]byte(m.Topic)), PacketID: m.id, QoS: m.QoS, Err: fault, Total: n})
	return nil
}
