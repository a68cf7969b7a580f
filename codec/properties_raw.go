package codec

import "iter"

// RawProperties are property bytes of a received packet without the length in
// front, checked by the Decode that returned them. They are a view into the
// frame and share its life. Its methods stop at the first byte that is not a
// property, which bytes from a Decode never hold.
type RawProperties []byte

// all yields each property with its value as nextProperty describes it.
func (r RawProperties) all(yield func(PropertyID, []byte) bool) {
	for len(r) > 0 {
		id, value, n, err := nextProperty(r)
		if err != nil || !yield(id, value) {
			return
		}
		r = r[n:]
	}
}

// Lookup returns the value of the first property id, and whether there is one.
// The value is a view: a text or binary value without its length, a number as
// on the wire, a User Property as two texts each with its length.
func (r RawProperties) Lookup(id PropertyID) (value []byte, ok bool) {
	for k, v := range r.all {
		if k == id {
			return v, true
		}
	}
	return nil, false
}

// Number returns the value of the first property id as a number, and whether
// there is one. It is 0 and false for properties that are not numbers.
func (r RawProperties) Number(id PropertyID) (value uint32, ok bool) {
	w := ruleOf(id).wire
	if w < wireByte || w > wireVarint {
		return 0, false
	}
	v, ok := r.Lookup(id)
	if !ok {
		return 0, false
	}
	return number(w, v), true
}

// SubscriptionIDs yields the Subscription Identifiers in their order.
func (r RawProperties) SubscriptionIDs() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for id, v := range r.all {
			if id == PropSubscriptionIdentifier && !yield(number(wireVarint, v)) {
				return
			}
		}
	}
}

// UserProperties yields name and value of each User Property in their order, as views.
func (r RawProperties) UserProperties() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for id, v := range r.all {
			if id != PropUserProperty {
				continue
			}
			n := fieldSize(v)
			if !yield(v[2:n], v[n+2:]) {
				return
			}
		}
	}
}

// Decode sets dst to the properties in r. Everything is copied: dst stays
// valid when the frame is gone. Texts may share one allocation. It takes no more
// than eight times the bytes of r.
func (r RawProperties) Decode(dst *Properties) {
	users, ids := 0, 0
	for id := range r.all {
		switch id {
		case PropUserProperty:
			users++
		case PropSubscriptionIdentifier:
			ids++
		}
	}
	*dst = Properties{}
	if users > 0 {
		dst.User = make([]UserProperty, 0, users)
	}
	if ids > 0 {
		dst.SubscriptionIDs = make([]uint32, 0, ids)
	}
	// One copy of everything, cut into pieces, costs less than one for each text.
	text := string(r)
	at := 0
	for at < len(r) {
		id, value, n, err := nextProperty(r[at:])
		if err != nil {
			return
		}
		at += n
		dst.put(id, value, text[at-len(value):at])
	}
}

// DecodeFirst is Decode that keeps User Properties of at most limit bytes, counted as
// [MaxUserProperties] says, and sets UserCut when there were more.
func (r RawProperties) DecodeFirst(dst *Properties, limit int) {
	count, kept, rest := 0, 0, r
	for len(rest) > 0 {
		id, value, n, err := nextProperty(rest)
		if err != nil {
			break
		}
		if id == PropUserProperty {
			if count += len(value) - 4 + UserPropertyOverhead; count > limit {
				break
			}
		}
		kept += n
		rest = rest[n:]
	}
	if len(rest) == 0 {
		r.Decode(dst)
		return
	}
	first := append(make(RawProperties, 0, kept+maxSingleValues), r[:kept]...)
	for len(rest) > 0 {
		id, _, n, err := nextProperty(rest)
		if err != nil {
			break
		}
		if id != PropUserProperty {
			first = append(first, rest[:n]...)
		}
		rest = rest[n:]
	}
	first.Decode(dst)
	dst.UserCut = true
}

// maxSingleValues is room for the usual properties behind those that were cut.
const maxSingleValues = 64

// put stores one property. text is value as a string to keep.
func (p *Properties) put(id PropertyID, value []byte, text string) {
	switch w := ruleOf(id).wire; w {
	case wireByte:
		*p.octet(id) = value[0]
	case wireUint16:
		*p.uint16(id) = uint16(number(w, value))
	case wireUint32:
		*p.uint32(id) = number(w, value)
	case wireVarint:
		p.SubscriptionIDs = append(p.SubscriptionIDs, number(w, value))
		return
	case wireString:
		*p.text(id) = text
	case wireBinary:
		*p.binary(id) = append(make([]byte, 0, len(value)), value...)
	case wirePair:
		n := fieldSize(value)
		p.User = append(p.User, UserProperty{Key: text[2:n], Value: text[n+2:]})
		return
	}
	p.Present = p.Present.With(id)
}
