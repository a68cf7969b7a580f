// Salvage: what can be trusted in a damaged file, in a new one.

package bolt

import (
	"errors"
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

// Salvaged returns what Open did about a damaged file, nil when the file was
// sound.
func (s *Store) Salvaged() *Salvage { return s.salvaged }

// salvageFile puts the file at path aside and a new one in its place, unless it
// is no longer the one that was seen to be damaged: somebody else salvaged it. Its
// lock is held until the new one has its name.
func (c *config) salvageFile(path string, seen fs.FileInfo, why error) (*Salvage, error) {
	old, err := os.Open(path)
	if err != nil {
		return nil, c.explained(path, err)
	}
	defer old.Close()
	if err := lock(old, c.lockWait); err != nil {
		return nil, c.explained(path, err)
	}
	if err := unreplaced(path, old, seen); err != nil {
		return nil, err
	}
	src := &source{ReaderAt: old}
	if err := notOurs(path, src); src.err == nil && err != nil {
		return nil, err
	}
	result := &Salvage{Problem: why.Error()}
	temp, err := c.build(path, func(db *bbolt.DB) (err error) {
		result.Records, err = rescue(db, src)
		return errors.Join(src.err, err)
	})
	if err != nil {
		return nil, c.explained(path, err)
	}
	defer os.Remove(temp)
	if result.Aside, err = putAside(path); err != nil {
		return nil, c.explained(path, err)
	}
	if runtime.GOOS == "windows" {
		old.Close() // an open file cannot be replaced there
	}
	return result, c.explained(path, replace(temp, path))
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
