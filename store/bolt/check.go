// check: whether a file is one of ours, and whether its trees are sound.

package bolt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// walker goes through the trees of a file.
type walker struct {
	*image
	// leaf gets each element of a bucket named name; nil name at the top.
	leaf func(name []byte, e *element) error
	// damage gets what is wrong with a part; an error ends the walk, nil leaves
	// that part out.
	damage func(error) error
	// order says that pages must be as bbolt writes them, with keys in order.
	order bool
}

// bucket walks the tree of a bucket whose element's value is given.
func (w *walker) bucket(name, value []byte) error {
	if len(value) < bucketHeader {
		return w.damage(problem("a bucket has no root"))
	}
	root := binary.NativeEndian.Uint64(value)
	if root != 0 {
		return w.tree(name, root, nil, nil, 0)
	}
	page := value[bucketHeader:]
	if len(page) < pageHeader || flags(page) != flagLeaf {
		return w.damage(problem("a bucket has no page"))
	}
	return w.page(name, page, nil, nil, 0)
}

func (w *walker) tree(name []byte, id uint64, low, high []byte, depth int) error {
	if depth > maxDepth {
		return w.damage(problem("a tree is too deep"))
	}
	page, err := w.claim(id, pageUsed)
	if err != nil {
		return w.damage(err)
	}
	return w.page(name, page, low, high, depth)
}

func (w *walker) page(name, page, low, high []byte, depth int) error {
	all, branch, err := parse(page, w.order)
	if err == nil && w.order {
		err = ascending(all, low, high)
	}
	if err == nil && branch && len(all) == 0 {
		err = problem("a branch has no elements")
	}
	if err != nil {
		return w.damage(err)
	}
	for i := range all {
		e := &all[i]
		if !branch {
			err = w.leaf(name, e)
		} else {
			end := high
			if i+1 < len(all) {
				end = all[i+1].key
			}
			err = w.tree(name, e.page, e.key, end, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// named is a bucket at the top.
type named struct{ name, value []byte }

// mark returns the sequence of the bucket.
func (n *named) mark() uint64 {
	if len(n.value) < bucketHeader {
		return 0 // the walk finds it
	}
	return binary.NativeEndian.Uint64(n.value[8:])
}

// intended returns the name of a bucket as it was before one bit flipped, where the
// mark tells: flipped again, it has that checksum, and no other has.
func (n *named) intended() []byte {
	mark, name := n.mark(), bytes.Clone(n.name)
	if mark>>32 != 1 || mark == nameMark(name) {
		return n.name
	}
	for bit := range 8 * len(name) {
		name[bit/8] ^= 1 << (bit % 8)
		if isRecords(name) && mark == nameMark(name) {
			return name
		}
		name[bit/8] ^= 1 << (bit % 8)
	}
	return n.name
}

// buckets returns the buckets at the top.
func (w *walker) buckets() (all []named, err error) {
	leaf := w.leaf
	defer func() { w.leaf = leaf }()
	w.leaf = func(_ []byte, e *element) error {
		if e.flags != flagBucket {
			return w.damage(problem("a record stands outside of all buckets"))
		}
		all = append(all, named{bytes.Clone(e.key), bytes.Clone(e.value)})
		return nil
	}
	return all, w.tree(nil, w.head.root, nil, nil, 0)
}

// format returns the version that the file says it has, 0 for none. Its error is a
// *FormatError, or damage of that page.
func (w *walker) format(path string, all []named) (version uint32, err error) {
	info := slices.IndexFunc(all, func(b named) bool { return string(b.name) == infoBucket })
	switch {
	case info >= 0:
		version, err = w.version(all[info])
	case !slices.ContainsFunc(all, func(b named) bool { return isRecords(b.name) }):
		err = &FormatError{Path: path, Problem: "it is a bbolt database of something else"}
	}
	if version > formatVersion {
		err = &FormatError{Path: path, Problem: fmt.Sprintf("a newer version of this package wrote it: format %d, this one reads %d", version, formatVersion)}
	}
	return version, err
}

func (w *walker) version(info named) (version uint32, err error) {
	leaf := w.leaf
	defer func() { w.leaf = leaf }()
	w.leaf = func(_ []byte, e *element) error {
		if string(e.key) == formatKey && len(e.value) == 4 {
			version = binary.BigEndian.Uint32(e.value)
		}
		return nil
	}
	err = w.bucket(info.name, info.value)
	return version, err
}

// check walks the whole file. The error is a *FormatError, or what is damaged.
func check(path string, r io.ReaderAt, size int64) (*image, error) {
	h, err := readHead(r)
	if err != nil {
		return nil, err
	}
	if have := uint64(size / h.pageSize); have < h.pages {
		return nil, problem("%d of its %d pages are missing", h.pages-have, h.pages)
	}
	if err := checkHeads(r, h); err != nil {
		return nil, err
	}
	im := newImage(r, h)
	if err := im.readFreelist(); err != nil {
		return nil, err
	}
	return im, im.checkTrees(path)
}

// checkTrees checks all trees of the image.
func (im *image) checkTrees(path string) error {
	w := &walker{image: im, order: true, damage: func(err error) error { return err }}
	w.leaf = func(_ []byte, e *element) error {
		if e.flags != 0 {
			return problem("a bucket stands where a record should")
		}
		return nil
	}
	all, err := w.buckets()
	if err != nil {
		return err
	}
	switch version, err := w.format(path, all); {
	case err != nil:
		return err
	case version == 0:
		return problem("its format version is missing")
	}
	for _, b := range all {
		switch {
		case string(b.name) == infoBucket:
			continue
		case string(b.name) == quarantineBucket:
		case !isRecords(b.name):
			return problem("a bucket has a foreign name")
		case b.mark() != 0 && b.mark() != nameMark(b.name):
			return problem("the name of a bucket is damaged")
		}
		if err := w.bucket(b.name, b.value); err != nil {
			return err
		}
	}
	return im.complete()
}

// complete checks that no page is left out. The page of a tree that nothing leads to
// any more is one of them.
func (im *image) complete() error {
	if !im.listed {
		return nil
	}
	if id := bytes.IndexByte(im.state[2:], pageUnknown); id >= 0 {
		return problem("page %d is neither in use nor free", id+2)
	}
	return nil
}
