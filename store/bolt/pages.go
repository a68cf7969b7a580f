// The pages of a bbolt file, read without trusting them: bbolt itself maps the
// file and follows what it finds there.

package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// The layout, in the machine's byte order. A page begins with its number (8
// bytes), flags (2), count of elements (2) and count of further pages that belong
// to it (4). A head holds magic, version, page size, flags (4 each), root page,
// sequence, free list's page, count of pages, transaction, checksum (8 each).
const (
	pageHeader   = 16
	headSize     = 64
	headMagic    = 0xED0CDAED
	headVersion  = 2
	elementSize  = 16
	bucketHeader = 16 // root page, 0 when the page follows; sequence

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagHead     = 0x04
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf's element

	maxDepth = 64
	maxKey   = 32 << 10
)

// source reads a file and keeps the first error of the system's: what cannot be
// read now is not damaged, and may be read another time.
type source struct {
	io.ReaderAt
	err error
}

// ReadAt is that of the file.
func (s *source) ReadAt(b []byte, at int64) (int, error) {
	n, err := s.ReaderAt.ReadAt(b, at)
	if s.err == nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// head says where things are.
type head struct {
	at                        int64 // its page's offset
	pageSize                  int64
	root, freelist, pages, tx uint64
}

// readHead returns the newest valid head, as bbolt chooses it.
func readHead(r io.ReaderAt) (newest head, err error) {
	found := false
	take := func(offset int64) bool {
		var b [pageHeader + headSize]byte
		if _, err := r.ReadAt(b[:], offset); err != nil {
			return false
		}
		h, ok := parseHead(b[pageHeader:])
		if ok && (!found || h.tx > newest.tx) {
			newest, found = h, true
			newest.at = offset
		}
		return ok
	}
	if take(0) {
		take(newest.pageSize)
	} else {
		for at := int64(1 << 10); at <= 1<<24 && !found; at <<= 1 {
			take(at)
		}
	}
	if !found {
		return head{}, problem("neither head is valid")
	}
	return newest, nil
}

// checkHeads finds damage in the head that is not in use, where it is more than
// a crash in the middle of writing it explains: that leaves the fields which are
// the same in all heads as they were.
func checkHeads(r io.ReaderAt, h head) error {
	order := binary.NativeEndian
	for id := range int64(2) {
		var b [pageHeader + headSize]byte
		if _, err := r.ReadAt(b[:], id*h.pageSize); err != nil {
			return err
		}
		fields := b[pageHeader:]
		if order.Uint64(b[:]) != uint64(id) || flags(b[:]) != flagHead ||
			order.Uint32(fields) != headMagic || order.Uint32(fields[4:]) != headVersion || int64(order.Uint32(fields[8:])) != h.pageSize {
			return problem("head %d is damaged: the last commit may be missing", id)
		}
	}
	return nil
}

func parseHead(b []byte) (h head, ok bool) {
	order := binary.NativeEndian
	sum := fnv.New64a()
	sum.Write(b[:headSize-8])
	h = head{
		pageSize: int64(order.Uint32(b[8:])),
		root:     order.Uint64(b[16:]),
		freelist: order.Uint64(b[32:]),
		pages:    order.Uint64(b[40:]),
		tx:       order.Uint64(b[48:]),
	}
	ok = order.Uint32(b) == headMagic && order.Uint32(b[4:]) == headVersion &&
		order.Uint64(b[56:]) == sum.Sum64() && h.pageSize >= 1<<10 && h.pageSize <= 1<<24 && h.pages < 1<<40
	return h, ok
}

// problem is what is wrong with a file.
func problem(format string, args ...any) error { return fmt.Errorf(format, args...) }

// page states.
const (
	pageUnknown = iota
	pageFree
	pageUsed
)

// image reads pages and keeps what each is used for.
type image struct {
	file   io.ReaderAt
	head   head
	state  []byte
	free   int  // pages
	listed bool // which ones are free is known
}

func newImage(r io.ReaderAt, h head) *image {
	return &image{file: r, head: h, state: make([]byte, h.pages)}
}

// claim reads a page, with those that belong to it, and gives it a state.
func (im *image) claim(id uint64, state byte) ([]byte, error) {
	if id < 2 || id >= im.head.pages {
		return nil, problem("page %d is outside of the file", id)
	}
	var header [pageHeader]byte
	if _, err := im.file.ReadAt(header[:], int64(id)*im.head.pageSize); err != nil {
		return nil, err
	}
	if got := binary.NativeEndian.Uint64(header[:]); got != id {
		return nil, problem("page %d says that it is page %d", id, got)
	}
	n := 1 + uint64(binary.NativeEndian.Uint32(header[12:]))
	if n > im.head.pages-id {
		return nil, problem("page %d goes beyond the file", id)
	}
	for i := id; i < id+n; i++ {
		if im.state[i] != pageUnknown {
			return nil, problem("page %d is in use twice, or free and in use", i)
		}
		im.state[i] = state
	}
	data := make([]byte, int64(n)*im.head.pageSize)
	_, err := im.file.ReadAt(data, int64(id)*im.head.pageSize)
	return data, err
}

// readFreelist marks the free pages.
func (im *image) readFreelist() error {
	if im.head.freelist == 1<<64-1 {
		return problem("it has no list of free pages")
	}
	data, err := im.claim(im.head.freelist, pageUsed)
	if err != nil {
		return err
	}
	if flags(data) != flagFreelist {
		return problem("page %d is not a list of free pages", im.head.freelist)
	}
	ids := data[pageHeader:]
	n := uint64(count(data))
	if n == 0xFFFF {
		n, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids)/8) {
		return problem("the list of free pages is too long")
	}
	for i := range n {
		id := binary.NativeEndian.Uint64(ids[8*i:])
		if id < 2 || id >= im.head.pages || im.state[id] != pageUnknown {
			return problem("page %d cannot be free", id)
		}
		im.state[id] = pageFree
	}
	im.free, im.listed = int(n), true
	return nil
}

func flags(page []byte) uint16 { return binary.NativeEndian.Uint16(page[8:]) }
func count(page []byte) uint16 { return binary.NativeEndian.Uint16(page[10:]) }

// element is one of a page. A branch's has a key and a page, a leaf's a key and a
// value.
type element struct {
	flags      uint32
	page       uint64
	key, value []byte
}

// parse returns the elements of a branch or leaf page. When strict they must lie
// as bbolt writes them, without gaps: a wrong count shows in nothing else.
func parse(page []byte, strict bool) (all []element, branch bool, err error) {
	kind, n := flags(page), int(count(page))
	if kind != flagBranch && kind != flagLeaf {
		return nil, false, problem("a page of kind %#x in a tree", kind)
	}
	table := pageHeader + n*elementSize
	if table > len(page) {
		return nil, false, problem("a page says that it has %d elements", n)
	}
	if strict && n == 0 && len(bytes.Trim(page[table:], "\x00")) > 0 {
		return nil, false, problem("a page with something on it says that it is empty")
	}
	all = make([]element, n)
	next := uint64(table)
	for i := range all {
		at := pageHeader + i*elementSize
		b := page[at:]
		word := func(i int) uint64 { return uint64(binary.NativeEndian.Uint32(b[4*i:])) }
		e := &all[i]
		var pos, keySize, valueSize uint64
		if kind == flagBranch {
			pos, keySize, e.page = word(0), word(1), binary.NativeEndian.Uint64(b[8:])
		} else {
			e.flags, pos, keySize, valueSize = uint32(word(0)), word(1), word(2), word(3)
		}
		start := uint64(at) + pos
		if start < uint64(table) || keySize > maxKey || start+keySize+valueSize > uint64(len(page)) {
			return nil, false, problem("an element lies outside of its page")
		}
		if strict && start != next {
			return nil, false, problem("there is a gap between elements of a page")
		}
		next = start + keySize + valueSize
		e.key = page[start : start+keySize]
		e.value = page[start+keySize : start+keySize+valueSize]
	}
	return all, kind == flagBranch, nil
}

// ascending checks that the keys of a page grow, from low, the one that its branch
// has for it, to below high; nil is no bound. bbolt finds a page in its branch by
// the first key: another one there would be added beside it, not replaced.
func ascending(all []element, low, high []byte) error {
	if low != nil && (len(all) == 0 || !bytes.Equal(all[0].key, low)) {
		return problem("a page does not begin with the key that its branch has for it")
	}
	for i := range all {
		switch key := all[i].key; {
		case i > 0 && bytes.Compare(all[i-1].key, key) >= 0:
			return problem("keys are out of order")
		case high != nil && bytes.Compare(key, high) >= 0:
			return problem("a key is on the wrong page")
		}
	}
	return nil
}
