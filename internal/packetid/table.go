// Package packetid keeps the packet identifiers of MQTT (section 2.2.1), 1 to 65,535,
// and what holds each of them.
package packetid

// Table maps packet identifiers to what holds them. The zero value is empty and ready.
// It holds no lock; its user guards it.
//
// Its pages come and go with use, so that a session at rest costs little.
type Table[T any] struct {
	pages *[256]*page[T] // made on first use: most Conns of a large fleet are idle
	spare *page[T]       // the page emptied last, so that a rotating counter makes none
	n     int
}

type page[T any] struct {
	slots [256]*T
	n     int
}

// Len returns how many identifiers are taken.
func (t *Table[T]) Len() int { return t.n }

// Get returns what holds id, or nil.
func (t *Table[T]) Get(id uint16) *T {
	if t.pages == nil {
		return nil
	}
	if p := t.pages[id>>8]; p != nil {
		return p.slots[id&0xff]
	}
	return nil
}

// Set puts x under id, which must be free.
func (t *Table[T]) Set(id uint16, x *T) {
	if t.pages == nil {
		t.pages = new([256]*page[T])
	}
	p := t.pages[id>>8]
	if p == nil {
		if p, t.spare = t.spare, nil; p == nil {
			p = new(page[T])
		}
		t.pages[id>>8] = p
	}
	p.slots[id&0xff] = x
	p.n++
	t.n++
}

// Clear frees id, which must be taken.
func (t *Table[T]) Clear(id uint16) {
	p := t.pages[id>>8]
	p.slots[id&0xff] = nil
	p.n--
	t.n--
	if p.n == 0 {
		t.pages[id>>8], t.spare = nil, p
	}
}

// NextFree returns the first free identifier behind last and not above top,
// going round, or 0 when there is none. It passes full pages in one step.
func (t *Table[T]) NextFree(last, top uint16) uint16 {
	if t.n >= int(top) {
		return 0
	}
	for id := uint32(last) + 1; ; id++ {
		if id > uint32(top) {
			id = 1
		}
		if t.pages == nil {
			return uint16(id)
		}
		p := t.pages[id>>8]
		if p == nil || p.slots[id&0xff] == nil {
			return uint16(id)
		}
		if p.n == len(p.slots) {
			id |= 0xff
		}
	}
}

// Each calls f for everything in the table; f may clear what it is given.
func (t *Table[T]) Each(f func(*T)) {
	if t.pages == nil {
		return
	}
	for _, p := range t.pages {
		if p == nil {
			continue
		}
		for _, x := range p.slots {
			if x != nil {
				f(x)
			}
		}
	}
}
