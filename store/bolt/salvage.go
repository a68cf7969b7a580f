// Salvage: what can be trusted in a damaged file, in a new one.

package bolt

import (
	"cmp"
	"io"
	"io/fs"
	"os"
	"runtime"

	"go.etcd.io/bbolt"
)

// Salvage tells what [WithSalvage] did.
type Salvage struct {
	Problem string // what is wrong with the file, the first thing found
	Aside   string // the path of the damaged file
	Records int    // in the new file; damaged ones among them show at Load
}

// Salvaged returns what Open, or one before it, did about a damaged file, nil when the
// file was sound. What was lost is told until somebody heard: a Store that was asked
// and then closed is the last to tell.
func (s *Store) Salvaged() *Salvage {
	s.told.Store(true)
	return s.salvaged
}

// salvageFile puts the file at path aside and a new one in its place, unless it
// is no longer the one that was seen to be damaged: somebody else salvaged it. Its
// lock is held until the new one has its name.
func (c *config) salvageFile(path string, seen fs.FileInfo, why error) error {
	old, err := os.Open(path)
	if err != nil {
		return c.explained(path, err)
	}
	defer old.Close()
	if err := lock(old, c.lockWait); err != nil {
		return c.explained(path, err)
	}
	if err := unreplaced(path, old, seen); err != nil {
		return err
	}
	src := &source{ReaderAt: old}
	if err := notOurs(path, src); src.err == nil && err != nil {
		return err
	}
	note := Salvage{Problem: why.Error(), Aside: asideName(path)}
	temp, err := c.build(path, seen, func(db *bbolt.DB) (err error) {
		note.Records, err = rescue(db, src)
		if err := cmp.Or(src.err, err); err != nil {
			return err
		}
		return db.Update(note.write)
	})
	if err != nil {
		return c.explained(path, err)
	}
	defer os.Remove(temp)
	if err := putAside(path, note.Aside); err != nil {
		return c.explained(path, err)
	}
	if runtime.GOOS == "windows" {
		old.Close() // an open file cannot be replaced there
	}
	return c.explained(path, os.Rename(temp, path))
}

// notOurs returns a *FormatError for a damaged file when what can be read of it tells
// that it is somebody else's, or of a newer version: it is not ours to put aside.
func notOurs(path string, r io.ReaderAt) error {
	h, err := readHead(r)
	if err != nil {
		return nil // nothing tells
	}
	w := &walker{image: newImage(r, h), damage: func(error) error { return nil }}
	all, err := w.buckets()
	if err != nil || len(all) == 0 {
		return nil
	}
	_, err = w.format(path, all)
	return err
}

// rescue copies the records of a file that can be trusted.
func rescue(db *bbolt.DB, r io.ReaderAt) (records int, err error) {
	im := trusted(r)
	if im == nil {
		return 0, nil
	}
	return copyRecords(db, &walker{image: im, damage: func(error) error { return nil }})
}

// trusted returns an image that knows which pages to leave out: what is on a free
// page may be older than what was deleted since. It returns nil when that cannot
// be told: the list of free pages is damaged, and so are the trees.
func trusted(r io.ReaderAt) *image {
	h, err := readHead(r)
	if err != nil {
		return nil
	}
	im := newImage(r, h)
	if im.readFreelist() == nil {
		return im
	}
	if newImage(r, h).checkTrees("") == nil {
		return newImage(r, h)
	}
	return nil
}
