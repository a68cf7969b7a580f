package mqtt

import (
	"encoding/binary"
	"slices"

	"github.com/millrace/mqtt/store"
)

// laterRecords are those that a later version of this package wrote before
// an application went back to this one. They stay as they are, for the later version to
// go on with, and their packet identifiers stay taken meanwhile.
type laterRecords struct {
	meta     []byte // the number of the process in it goes on to be counted
	messages map[uint64]bool
	withheld map[*record]bool // their exchange is one of them: how far it is, is not known
	ids      []uint16
}

// epoch returns the number of the process that a later version counted, 0 when
// there is none: what is beyond the room for it in a key is no such number.
func (l *laterRecords) epoch() uint64 {
	if len(l.meta) < metaSize {
		return 0
	}
	n := binary.BigEndian.Uint64(l.meta[1:])
	if n >= maxEpoch {
		return 0
	}
	return n
}

// leave takes in a record that this version cannot read.
func (r *restored) leave(e *store.Entry, err error) {
	d := &store.DamageError{Key: e.Key, Problem: err.Error()}
	r.damaged = append(r.damaged, StoreDamaged{Err: d, Left: true})
	switch e.Key.Kind {
	case store.Meta:
		r.later.meta = slices.Clone(e.Value)
		if n := r.later.epoch(); n != 0 {
			r.epoch = max(r.epoch, n)
		} else {
			r.uncounted = true
		}
	case store.Outgoing:
		r.later.messages[e.Key.Seq] = true
	case store.Exchange:
		r.later.ids = append(r.later.ids, idAt(e.Value, exchangeID))
		if rec := r.byKey[e.Key.Seq]; rec != nil {
			r.later.withheld[rec] = true
		}
	case store.Incoming:
		if id := idAt(e.Value, incomingID); id != 0 {
			r.incoming = append(r.incoming, restoredIncoming{e.Key.Seq, id})
		}
	}
}

// withhold takes out the messages whose exchange this version cannot read: sent
// anew they could double. Identifiers that an exchange of ours has are its own.
func (r *restored) withhold() {
	r.outgoing = slices.DeleteFunc(r.outgoing, func(rec *record) bool {
		if r.later.withheld[rec] && rec.resident {
			r.bytes -= len(rec.payload)
		}
		return r.later.withheld[rec]
	})
	for _, id := range r.later.ids {
		if id != 0 && !r.byID[id] {
			r.byID[id] = true
			r.reserve(id)
		}
	}
}

// reserve keeps a packet identifier taken until the session ends, without a
// record of ours in the store.
func (r *restored) reserve(id uint16) {
	r.orphans = append(r.orphans, &record{exchange: exchange{id: id, qos: 1, state: recQuarantined, sentOnLink: sentByEarlierProcess, restored: true}})
}
