package mqtt

// idTable maps packet identifiers, 1 to 65,535, to the exchanges that hold them.
// Its pages come and go with use, so that a session at rest costs little.
type idTable[T any] struct {
	pages *[256]*idPage[T] // made on first use: most Conns of a large fleet are idle
	spare *idPage[T]       // the page emptied last, so that a rotating counter makes none
	n     int
}

type idPage[T any] struct {
	slots [256]*T
	n     int
}

// get returns what holds id, or nil.
func (t *idTable[T]) get(id uint16) *T {
	if t.pages == nil {
		return nil
	}
	if p := t.pages[id>>8]; p != nil {
		return p.slots[id&0xff]
	}
	return nil
}

// set puts x under id, which must be free.
func (t *idTable[T]) set(id uint16, x *T) {
	if t.pages == nil {
		t.pages = new([256]*idPage[T])
	}
	p := t.pages[id>>8]
	if p == nil {
		if p, t.spare = t.spare, nil; p == nil {
			p = new(idPage[T])
		}
		t.pages[id>>8] = p
	}
	p.slots[id&0xff] = x
	p.n++
	t.n++
}

// clear frees id, which must be taken.
func (t *idTable[T]) clear(id uint16) {
	p := t.pages[id>>8]
	p.slots[id&0xff] = nil
	p.n--
	t.n--
	if p.n == 0 {
		t.pages[id>>8], t.spare = nil, p
	}
}

// nextFree returns the first free identifier behind last and not above top,
// going round, or 0 when there is none. It passes full pages in one step.
func (t *idTable[T]) nextFree(last, top uint16) uint16 {
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

// each calls f for everything in the table; f may clear what it is given.
func (t *idTable[T]) each(f func(*T)) {
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
