package mqtt

import (
	"hash/maphash"
	"slices"

	"github.com/millrace/mqtt/codec"
)

// intake takes a QoS 1 or 2 message into the durable inbox. Who gets it is decided
// here, as without an inbox; that they get it waits for the store.
func (r *reader) intake(t *topicEntry, p *codec.PublishView) error {
	c := r.l.conn
	if err := r.press(); err != nil {
		return err
	}
	r.choose(t, p)
	m := Message{Topic: t.topic, Payload: r.own(p.Payload), QoS: QoS(p.QoS), id: p.PacketID}
	if p.Dup {
		m.ref = flagDup
	}
	if len(p.Props) > 0 {
		m.Properties = messageProperties(p)
	}
	r.owes = true
	hash := maphash.Bytes(r.topics.seed, p.Payload) ^ t.hash
	var a arrival
	if len(r.chosen) == 0 && (len(t.targets) > 0 || !c.routes.parks(t.topic)) {
		a, _ = c.ledger.arrive(&m, hash, r.now, nil)
		if a == arrivedNew && len(t.targets) == 0 {
			c.unmatched(t.topic)
		}
	} else {
		var msgs []Message
		if len(r.chosen) > 0 {
			msgs = m.copies(r.chosen, r.flags)
		} else {
			msgs = []Message{m} // for nobody yet
		}
		var err error
		if a, err = c.ledger.stash(msgs, r.namesOf(t.topic), hash, r.now); err != nil {
			return err
		}
	}
	switch a {
	case arrivedNew:
		c.stats.received.Add(1)
	case arrivedAgain:
		c.stats.duplicates.Add(1)
	case arrivedOver:
		return overReceiveMaximum()
	}
	return nil
}

// press has the reader wait until s has room for what is in the inbox.
func (in *inbox) press(s *Subscription) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !slices.Contains(in.pressing, s) {
		in.pressing = append(in.pressing, s)
		in.pressed.Store(true)
	}
}

// nextPressing takes out one that the reader is to wait for, nil if there is none.
func (in *inbox) nextPressing() *Subscription {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.pressing) == 0 {
		return nil
	}
	s := in.pressing[0]
	in.pressing = slices.Delete(in.pressing, 0, 1)
	in.pressed.Store(len(in.pressing) > 0)
	return s
}

// press waits for the subscriptions that have no room for what is in the inbox, so
// that no more of that is entered than was under way, however many links later.
func (r *reader) press() error {
	in := r.l.conn.inbox
	for in.pressed.Load() {
		s := in.nextPressing()
		if s == nil || s.hasRoom() {
			continue
		}
		if err := r.backPressure(s); err != nil {
			in.press(s) // for the reader of the next link
			return err
		}
	}
	return nil
}

// copies returns m for each of subs, with flags of their own when there are any.
func (m *Message) copies(subs []*Subscription, flags []uint32) []Message {
	all := make([]Message, len(subs))
	for i, s := range subs {
		all[i] = *m
		if all[i].sub = s; flags != nil {
			all[i].ref |= flags[i]
		}
		if i > 0 {
			all[i].Payload, all[i].Properties = slices.Clone(m.Payload), m.Properties.clone()
		}
	}
	return all
}

// names are the filters that a message came for: those of the subscriptions chosen
// for it that match its topic, the empty one for the catch-all. A later process
// finds by them who is to have the message.
type names struct {
	topic string
	sub   *Subscription
	names []string // shared by many messages
}

// namesOf returns the names for topic and the chosen; they are mostly those of the
// message before.
func (r *reader) namesOf(topic string) []string {
	if len(r.chosen) != 1 {
		return namesFor(topic, r.chosen)
	}
	if n := &r.names; n.sub != r.chosen[0] || n.topic != topic {
		*n = names{topic, r.chosen[0], namesFor(topic, r.chosen)}
	}
	return r.names.names
}

func namesFor(topic string, chosen []*Subscription) (names []string) {
	for _, s := range chosen {
		if len(s.filters) == 0 {
			names = append(names, "")
		}
		for _, f := range s.filters {
			if _, rest := splitShared(f.Filter); meet(rest, topic) && !slices.Contains(names, f.Filter) {
				names = append(names, f.Filter)
			}
		}
	}
	return names
}

// clone copies p deeply, so that two subscriptions do not share it.
func (p *Properties) clone() *Properties {
	if p == nil {
		return nil
	}
	c := *p
	c.CorrelationData, c.User = slices.Clone(p.CorrelationData), slices.Clone(p.User)
	return &c
}
