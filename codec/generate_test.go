package codec

import "math/rand/v2"

// generator makes packets that can be encoded.
type generator struct{ *rand.Rand }

func (g generator) bool() bool { return g.IntN(2) == 0 }

func (g generator) pick(from string) byte { return from[g.IntN(len(from))] }

// size is mostly small, and now and then at a boundary of a length field.
func (g generator) size() int {
	if g.IntN(20) > 0 {
		return g.IntN(8)
	}
	return []int{0, 1, 120, 127, 128, 16_300, 16_383, 16_384, 65_535}[g.IntN(9)]
}

func (g generator) text() string {
	runes := []rune("abc/$ 7äß世\U0001F600\uFEFF")
	var s string
	for range g.size() % 200 {
		s += string(runes[g.IntN(len(runes))])
	}
	return s
}

func (g generator) topic() string { return "t" + g.text() }

func (g generator) filter() string {
	return []string{"#", "+", "+/+", "/+", "a/#", "$share/g/+/a", "$SYS/#", g.topic()}[g.IntN(8)]
}

func (g generator) bytes() []byte {
	b := make([]byte, g.size())
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

func (g generator) id() uint16 { return uint16(1 + g.IntN(65_535)) }

// props makes properties that may stand in t; nil when it made none.
func (g generator) props(t Type, will bool) *Properties {
	p := new(Properties)
	for id := PropertyID(1); id <= maxPropertyID; id++ {
		rule := ruleOf(id)
		if rule.packets&scope(t, will) == 0 || g.IntN(3) == 0 {
			continue
		}
		limit := rule.max
		if limit == 0 {
			limit = 65_535
		}
		n := rule.min + g.Uint32N(limit-rule.min+1)
		switch rule.wire {
		case wireByte:
			*p.octet(id) = byte(n)
		case wireUint16:
			*p.uint16(id) = uint16(n)
		case wireUint32:
			*p.uint32(id) = n
		case wireString:
			*p.text(id) = g.topic()
		case wireBinary:
			*p.binary(id) = g.bytes()
		case wireVarint:
			p.SubscriptionIDs = append(p.SubscriptionIDs, n)
			if t == PUBLISH && g.bool() {
				p.SubscriptionIDs = append(p.SubscriptionIDs, 1, maxVarint)
			}
			continue
		case wirePair:
			for range 1 + g.IntN(3) {
				p.User = append(p.User, UserProperty{g.text(), g.text()})
			}
			continue
		}
		p.Present = p.Present.With(id)
	}
	if p.Present.Has(PropAuthenticationData) || t == AUTH {
		p.Present = p.Present.With(PropAuthenticationMethod)
	}
	if p.set() == 0 {
		return nil
	}
	return p
}

// packet makes a packet of type t, nil when v has no such packet.
func (g generator) packet(v Version, t Type) any {
	if !t.validIn(v) {
		return nil
	}
	var props *Properties
	if v == V5 && g.bool() {
		props = g.props(t, false)
	}
	code := func() ReasonCode { return ReasonCode(g.pick(codesOf(t, v))) }
	codes := func() (all []ReasonCode) {
		for range 1 + g.IntN(4) {
			all = append(all, code())
		}
		return all
	}
	switch t {
	case CONNECT:
		return g.connect(v, props)
	case CONNACK:
		return &Connack{SessionPresent: v != V31 && g.bool(), Code: code(), Props: props}
	case PUBLISH:
		p := &Publish{QoS: byte(g.IntN(3)), Retain: g.bool(), Topic: g.topic(), Payload: g.bytes(), Props: props}
		if p.QoS > 0 {
			p.Dup, p.PacketID = g.bool(), g.id()
		}
		if props.Has(PropTopicAlias) && g.bool() {
			p.Topic = ""
		}
		return p
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		a := &Ack{Type: t, PacketID: g.id(), Code: code()}
		if props != nil {
			raw := AppendProperties(nil, props)
			_, n := parseVarint(raw)
			a.Props = raw[n:]
		}
		return a
	case SUBSCRIBE:
		return &Subscribe{PacketID: g.id(), Subscriptions: g.subscriptions(v), Props: props}
	case SUBACK:
		return &Suback{PacketID: g.id(), Codes: codes(), Props: props}
	case UNSUBSCRIBE:
		return &Unsubscribe{PacketID: g.id(), Filters: []string{g.filter(), g.filter()}, Props: props}
	case UNSUBACK:
		p := &Unsuback{PacketID: g.id(), Props: props}
		if v == V5 {
			p.Codes = codes()
		}
		return p
	case DISCONNECT:
		return &Disconnect{Code: code(), Props: props}
	case AUTH:
		if props == nil {
			return &Auth{}
		}
		return &Auth{Code: code(), Props: props}
	}
	return &ping{t}
}

func (g generator) connect(v Version, props *Properties) *Connect {
	p := &Connect{Version: v, ClientID: g.text(), CleanStart: g.bool(), KeepAlive: uint16(g.Uint32()), Props: props}
	if g.bool() {
		p.HasUsername, p.Username = true, g.text()
	}
	if (p.HasUsername || v == V5) && g.bool() {
		p.HasPassword, p.Password = true, g.bytes()
	}
	if g.bool() {
		p.Will = &Will{Topic: g.topic(), Payload: g.bytes(), QoS: byte(g.IntN(3)), Retain: g.bool()}
		if v == V5 {
			p.Will.Props = g.props(CONNECT, true)
		}
	}
	return p
}

func (g generator) subscriptions(v Version) (all []Subscription) {
	for range 1 + g.IntN(3) {
		s := Subscription{Filter: g.filter(), QoS: byte(g.IntN(3))}
		if v == V5 {
			s.NoLocal = g.bool() && !isShared(s.Filter)
			s.RetainAsPublished, s.RetainHandling = g.bool(), byte(g.IntN(3))
		}
		all = append(all, s)
	}
	return all
}
