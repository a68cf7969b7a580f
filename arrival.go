package mqtt

import (
	"hash/maphash"
	"slices"

	"github.com/millrace/mqtt/codec"
)

// enterInbox takes a QoS 1 or 2 message into the durable inbox. Its recipients are chosen
// here, as without an inbox; that they get it waits for the store.
func (r *reader) enterInbox(t *topicEntry, p *codec.PublishView) error {
	s := r.l.session
	r.choose(t, p)
	if len(r.recipients) == 0 && (len(t.targets) > 0 || !s.routes.keepsUnclaimed(t.topic)) {
		return r.pass(t, p)
	}
	to := r.addresseesOf(t)
	if err := r.awaitRoom(len(to.unclaimed) > 0 || len(r.recipients) == 0); err != nil {
		return err
	}
	m := r.message(t, p)
	var msgs []Message
	if len(r.recipients) > 0 {
		msgs = r.copies(&m)
	} else {
		if p.Retain {
			m.ref |= flagRetained
		}
		msgs = []Message{m} // without an owner yet
	}
	a, err := s.ledger.storeArrival(msgs, to, r.hash(t, p), r.now)
	if err != nil {
		return err
	}
	return r.count(a)
}

// pass notes a message without a recipient: it is acknowledged at once.
func (r *reader) pass(t *topicEntry, p *codec.PublishView) error {
	m := r.message(t, p)
	a, _ := r.l.session.ledger.arrive(&m, r.hash(t, p), r.now, nil)
	if a == arrivedNew && len(t.targets) == 0 {
		r.l.session.unmatched(t.topic)
	}
	return r.count(a)
}

// message is the message of p, without an owner.
func (r *reader) message(t *topicEntry, p *codec.PublishView) Message {
	r.acksDue = true
	m := Message{Topic: t.topic, Payload: r.own(p.Payload), QoS: QoS(p.QoS), id: p.PacketID}
	if p.Dup {
		m.ref = flagDup
	}
	if len(p.Props) > 0 {
		m.Properties = messageProperties(p)
	}
	return m
}

// hash is what the ledger recognises a message by.
func (r *reader) hash(t *topicEntry, p *codec.PublishView) uint64 {
	return maphash.Bytes(r.topics.seed, p.Payload) ^ t.hash
}

// count counts an arrival.
func (r *reader) count(a arrival) error {
	switch a {
	case arrivedNew:
		r.l.session.stats.received.Add(1)
	case arrivedAgain:
		r.l.session.stats.duplicates.Add(1)
	case arrivedOver:
		return overReceiveMaximum()
	}
	return nil
}

// addresseesOf returns the filters that a message on t came for, and takes placeholders
// out of the recipients: for their filters the message waits for the next subscription.
func (r *reader) addresseesOf(t *topicEntry) addressees {
	c := addressees{routes: t.gen}
	if len(r.recipients) == 1 && t.names != nil && r.recipients[0] == t.names.of {
		c.names = t.names.names
		return c
	}
	for i := range t.targets {
		tg := &t.targets[i]
		if !slices.Contains(r.recipients, tg.sub) {
			continue
		}
		if !slices.Contains(c.names, tg.filter) {
			c.names = append(c.names, tg.filter)
		}
		if tg.sub.placeholder {
			c.unclaimed = append(c.unclaimed, tg.filter)
		}
	}
	if len(t.targets) == 0 && len(r.recipients) > 0 {
		c.names = []string{""} // the catch-all
	}
	for i := 0; i < len(r.recipients); i++ {
		if r.recipients[i].placeholder {
			r.recipients, r.flags = slices.Delete(r.recipients, i, i+1), slices.Delete(r.flags, i, i+1)
			i--
		}
	}
	if len(r.recipients) == 1 && len(c.unclaimed) == 0 {
		t.names = &filterNames{r.recipients[0], c.names}
	}
	return c
}

// awaitRoom waits until there is room in the inbox: for each of the recipients,
// and for messages without an owner. The limits of pending messages bound the entries too,
// or a slow consumer would fill the store, since the server is answered at once.
func (r *reader) awaitRoom(unclaimed bool) error {
	for _, s := range r.recipients {
		if err := r.awaitRoomOf(s); err != nil {
			return err
		}
	}
	if !unclaimed {
		return nil
	}
	return r.awaitRoomOf(r.l.session.inbox.unclaimed())
}

func (r *reader) awaitRoomOf(s *Subscription) error {
	if !s.overArrivalLimit() || s.gone() {
		return nil
	}
	if err := r.flush(); err != nil {
		return err // what came before must not wait
	}
	return r.backPressure(s, true)
}

// copies returns m for each of the recipients, with flags of their own.
func (r *reader) copies(m *Message) []Message {
	all := make([]Message, len(r.recipients))
	for i, s := range r.recipients {
		all[i] = *m
		all[i].to, all[i].ref = &s.owner, all[i].ref|r.flags[i]
		if i > 0 {
			all[i].Payload, all[i].Properties = slices.Clone(m.Payload), m.Properties.clone()
		}
	}
	return all
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
