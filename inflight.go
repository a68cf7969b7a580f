package mqtt

import (
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/internal/packetid"
)

// window is the state of the outgoing QoS 1 and 2 exchanges and of every packet
// identifier in use. It is pure: facts in, decisions out; no lock, no clock, no
// socket. outbound guards it with its lock and carries out what it decides.
//
// An identifier belongs to one record from admit or take until the exchange
// ends. Identifiers come from one rotating counter, so that one is not used
// again soon after it was freed [MQTT-2.2.1-3].
type window struct {
	ids         packetid.Table[record]
	order       recordList // PUBACK or PUBREC awaited, in the order of the first sending
	released    recordList // PUBCOMP awaited, in the order of the PUBRECs [MQTT-4.6.0-4]
	quarantined recordList // never sent again; each keeps its identifier
	nextPublish *record    // next of order to be sent again on this link; nil when through
	nextPubrel  *record    // next of released to be sent again on this link; nil when through
	quota       int        // PUBLISHes that may still be sent [MQTT-4.9.0-1]
	limit       int        // what quota started at on this link
	link        uint32     // number of the current link; 0 while there is none
	lastID      uint16
	hold        bool   // no PUBLISH may be sent for now: the link probes
	controls    int    // SUBSCRIBEs and UNSUBSCRIBEs unanswered
	maxID       uint16 // the highest identifier: 65,535, less only in tests
}

// maxPacketID is the highest packet identifier (section 2.2.1).
const maxPacketID = 1<<16 - 1

// inflight is the number of exchanges that may still end.
func (w *window) inflight() int { return w.order.n + w.released.n }

// verdict is what the window decided about an acknowledgement.
type verdict uint8

const (
	ackIgnored   verdict = iota // unknown or repeated: count it
	ackDone                     // the exchange ended; the server has the message, or refused it
	ackReleased                 // PUBREC taken: send PUBREL
	ackRepeat                   // PUBREC again while PUBCOMP is awaited: PUBREL again
	ackUnknown                  // PUBREC for no exchange: PUBREL with 0x92 on 5.0
	ackViolation                // wrong kind for the exchange: the link ends (section 4.8)
	ackMismatch                 // PUBACK for QoS 2 on 3.x, where the exchange ends instead
)

// freeID reports whether an identifier is not in use.
func (w *window) freeID() bool { return w.ids.Len() < int(w.maxID) }

// assignID gives r the next identifier; freeID must hold.
func (w *window) assignID(r *record) {
	w.lastID = w.ids.NextFree(w.lastID, w.maxID)
	r.id = w.lastID
	w.ids.Set(r.id, r)
}

// take gives r, a control exchange, an identifier. freeID must hold.
func (w *window) take(r *record) {
	r.state, r.sentOnLink = recControl, w.link
	w.controls++
	w.assignID(r)
}

// canAdmit reports whether a new publish may be sent now: nothing waits to be
// sent again, the quota is not spent and an identifier is free.
func (w *window) canAdmit() bool {
	return w.canSend() && w.freeID()
}

// canSend is canAdmit for a publish that has its identifier.
func (w *window) canSend() bool { return w.link != 0 && !w.hold && !w.resending() && w.quota > 0 }

// admit gives r an identifier and a unit of the quota. canAdmit must hold.
func (w *window) admit(r *record) {
	if r.id == 0 {
		w.assignID(r)
	}
	r.sentBefore = r.sentOnLink != 0
	r.state, r.sentOnLink, r.quota = recSent, w.link, true
	w.quota--
	w.order.pushBack(r)
}

// up begins a link with a quota of limit. Open exchanges are to be sent again, in
// order, before anything new [MQTT-4.6.0-1].
func (w *window) up(link uint32, limit int) {
	w.link, w.limit, w.quota = link, limit, limit
	w.nextPublish, w.nextPubrel = w.order.head, w.released.head
	for _, l := range []*recordList{&w.order, &w.released} {
		for r := l.head; r != nil; r = r.next {
			r.quota, r.resent = false, false
		}
	}
}

// widen raises the limit of the link; messages in flight stay counted.
func (w *window) widen(limit int) {
	w.quota += limit - w.limit
	w.limit = limit
}

// down ends the link. Control exchanges end with it: their owner starts them
// anew on the next link, with new identifiers.
func (w *window) down(dropped func(*record)) {
	w.link, w.limit, w.quota, w.nextPublish, w.nextPubrel = 0, 0, 0, nil, nil
	w.hold, w.controls = false, 0
	w.ids.Each(func(r *record) {
		if r.state == recControl {
			w.ids.Clear(r.id)
			dropped(r)
		}
	})
}

// resending reports whether something is still to be sent again on this link.
func (w *window) resending() bool { return w.nextPublish != nil || w.nextPubrel != nil }

// nextResend returns the record to send next on a resumed link, or nil when
// there is none, the quota is spent, or publishes
// have to wait. PUBRELs come first: they take no quota, so nothing may stop them (section
// 4.9).
func (w *window) nextResend() *record {
	if r := w.nextPubrel; r != nil {
		if r.unsaved() {
			return nil
		}
		w.nextPubrel = r.next
		r.sentOnLink, r.resent = w.link, true
		return r
	}
	r := w.nextPublish
	if r == nil || w.hold || w.quota <= 0 {
		return nil
	}
	w.nextPublish = r.next
	w.quota--
	r.sentOnLink, r.quota, r.sentBefore = w.link, true, true
	return r
}

// ack takes a PUBACK, PUBREC or PUBCOMP for a publish and says what follows from
// it. When the verdict is ackDone or ackMismatch, r has left the window.
func (w *window) ack(v Version, t codec.Type, id uint16, code codec.ReasonCode) (*record, verdict) {
	r := w.ids.Get(id)
	if w.strange(r) {
		// Unknown, or not yet sent again on this link: an answer to nothing.
		if t == codec.PUBREC && (r == nil || r.state == recQuarantined) {
			return nil, ackUnknown
		}
		return nil, ackIgnored
	}
	switch {
	case t == codec.PUBACK && r.qos == 1:
		w.finish(r)
		return r, ackDone
	case t == codec.PUBACK:
		// RabbitMQ of old answers a QoS 2 PUBLISH by PUBACK.
		if v == V5 || r.state == recReleased {
			return r, w.wrongKind(r)
		}
		w.finish(r)
		return r, ackMismatch
	case r.qos == 1:
		return r, w.wrongKind(r)
	case t == codec.PUBREC && r.state == recReleased:
		return r, ackRepeat
	case t == codec.PUBREC && code.IsError():
		// The server will not have it: no PUBREL, id and quota are free [MQTT-4.3.3-4].
		w.finish(r)
		return r, ackDone
	case t == codec.PUBREC:
		r.state = recReleased
		w.order.remove(r)
		w.released.pushBack(r)
		return r, ackReleased
	case r.state == recReleased: // PUBCOMP
		w.finish(r)
		return r, ackDone
	default: // PUBCOMP before PUBREC
		return r, w.wrongKind(r)
	}
}

// strange reports whether r, which has the identifier of an acknowledgement, is no
// publish that was sent on this link.
func (w *window) strange(r *record) bool {
	return r == nil || r.state == recQuarantined || r.state == recControl || r.sentOnLink != w.link
}

// wrongKind is the verdict on an acknowledgement of a kind that the exchange of r
// cannot have.
func (w *window) wrongKind(r *record) verdict {
	r.misanswered = true
	return ackViolation
}

// answered ends the control exchange of id, nil when there is none.
func (w *window) answered(id uint16) *record {
	r := w.ids.Get(id)
	if r == nil || r.state != recControl {
		return nil
	}
	w.ids.Clear(id)
	w.controls--
	return r
}

// finish takes r out of the window and gives its quota back. An acknowledgement
// counts only on the link that r was sent on, so that no cursor is at r.
func (w *window) finish(r *record) {
	w.release(r)
	w.ids.Clear(r.id)
	r.list.remove(r)
}

// release gives back the unit of quota that r holds, if it holds one, never
// above the limit (section 4.9).
func (w *window) release(r *record) {
	if r.quota {
		r.quota = false
		w.quota = min(w.quota+1, w.limit)
	}
}

// quarantine keeps the identifier of r, which was sent on this link or on none,
// taken and sends r no more.
func (w *window) quarantine(r *record) {
	w.release(r)
	r.list.remove(r)
	r.state = recQuarantined
	w.quarantined.pushBack(r)
}

// forget empties the window when the server's session is gone: the records come
// back in their order, and every identifier is free.
func (w *window) forget(each func(*record)) {
	w.nextPublish, w.nextPubrel = nil, nil
	for _, l := range []*recordList{&w.released, &w.order, &w.quarantined} {
		for r := l.head; r != nil; r = l.head {
			w.ids.Clear(r.id)
			l.remove(r)
			each(r)
		}
	}
}
