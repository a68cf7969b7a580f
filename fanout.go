package mqtt

import "github.com/millrace/mqtt/codec"

// This file decides which subscriptions get a message, and hands it to several of them.

// choose fills in the recipients of a message: by subscription identifier where the
// server sent one of ours whose filter matches, else every subscription that matches.
func (r *reader) choose(t *topicEntry, p *codec.PublishView) {
	r.recipients, r.flags = r.recipients[:0], r.flags[:0]
	switch {
	case len(t.targets) == 0:
		r.chooseForUnmatched(t, p)
	case p.SubIDs > 0 && r.byIdentifier(t, p):
	default:
		r.byFilter(t, p)
	}
}

// fanOut hands on a message that goes to several subscriptions, or to none.
func (r *reader) fanOut(t *topicEntry, p *codec.PublishView) error {
	if err := r.flush(); err != nil {
		return err
	}
	r.add(t, p)
	defer r.current.reset()
	r.owners = r.owners[:0]
	for _, s := range r.recipients {
		r.owners = append(r.owners, &s.owner)
	}
	msgs, err := r.enter(r.owners)
	if len(msgs) == 0 {
		return err
	}
	if len(t.targets)+len(r.recipients) == 0 {
		r.l.session.unmatched(t.topic) // else its subscription has or gets a copy by another filter
	}
	m := msgs[0]
	for i, s := range r.recipients {
		msgs[0] = m
		msgs[0].to, msgs[0].ref, msgs[0].Payload = &s.owner, m.ref|r.flags[i], r.own(p.Payload)
		if i > 0 {
			msgs[0].Properties = messageProperties(p)
		}
		if e := r.deliver(s, msgs); err == nil {
			err = e
		}
	}
	return err
}

// byFilter chooses every subscription that matches. When several filters do, the server may
// send a copy for each, and each copy comes here.
func (r *reader) byFilter(t *topicEntry, p *codec.PublishView) {
	for i := range t.targets {
		if t.targets[i].canonical == i {
			r.pick(&t.targets[i], p)
		}
	}
	if t.routes > 1 {
		r.l.session.stats.suspected.Add(1)
	}
}

// byIdentifier chooses by subscription identifier, and reports whether any of
// the identifiers is that of a matching filter of ours. A subscription with
// several filters takes one copy: that of the target that takesCopy marks. When one of several
// identifiers is of an earlier process, every other subscription that matches gets the
// message too: the server may still know its filter by that identifier.
func (r *reader) byIdentifier(t *topicEntry, p *codec.PublishView) bool {
	found := false
	r.chosen = append(r.chosen[:0], make([]bool, len(t.targets))...)
	for i := range t.targets {
		tg := &t.targets[i]
		if tg.subID == 0 || !r.carries(p, tg.subID) {
			continue
		}
		found = true
		switch {
		case tg.takesCopy && !p.Dup: // one sent again may have been passed over on an earlier link
			t.endLate(i, p.QoS)
		case tg.takesCopy:
		case !tg.takesLate(p.QoS):
			continue
		}
		if !r.chosen[tg.canonical] {
			r.chosen[tg.canonical] = r.pick(tg, p)
		}
	}
	if found && p.SubIDs > 1 && r.l.session.routes.hasForeignID(p) {
		for i := range t.targets {
			if tg := &t.targets[i]; tg.canonical == i && !r.chosen[i] {
				r.pick(tg, p)
			}
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

// pick chooses tg and reports that it did, unless the message is a retained copy that is
// meant for another subscription of the same filter.
func (r *reader) pick(tg *target, p *codec.PublishView) bool {
	if tg.forwarded && p.QoS == 0 {
		return false // the subscription that it forwards to is picked
	}
	retained := p.Retain && !tg.asPub
	if retained && tg.others && !tg.fresh {
		return false
	}
	var flags uint32
	if p.Retain {
		flags |= flagRetained
	}
	if retained && tg.replay && !tg.fresh {
		flags |= flagReplay
	}
	r.recipients = append(r.recipients, tg.sub)
	r.flags = append(r.flags, flags)
	return true
}

// chooseForUnmatched chooses the catch-all subscription or the backlog, for what matches no
// filter.
func (r *reader) chooseForUnmatched(t *topicEntry, p *codec.PublishView) {
	s := r.l.session.routes.takerOfUnmatched(t.topic, QoS(p.QoS))
	if s == nil {
		return
	}
	var flags uint32
	if p.Retain {
		flags = flagRetained
	}
	r.recipients, r.flags = append(r.recipients, s), append(r.flags, flags)
}
