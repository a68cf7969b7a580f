// Leftovers: what a process that was killed while it made or replaced a file left
// beside it.

package bolt

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Names beside a store's: its own, one of these, and what sets it apart.
const (
	newInfix     = ".millrace-new-" // a file that is being made; digits
	damagedInfix = ".damaged-"      // a file that was put aside; the time
)

// sweep removes the files beside path that nobody goes on making. The caller has
// path open: with its lock nobody else compacts it, and who was about to create it
// copes with the loss, see create.
func sweep(path string) {
	store, err := os.Stat(path)
	if err != nil {
		return
	}
	for _, name := range beside(path, newInfix) {
		if suffix := name[len(path)+len(newInfix):]; strings.Trim(suffix, "0123456789") != "" {
			continue
		}
		if other, err := os.Stat(name); err == nil && os.SameFile(store, other) {
			os.Remove(name) // a creation cut short between its two names; the lock is ours
			continue
		}
		removeUnused(name) // one that stays takes room and does no harm
	}
}

// removeUnused removes a file that nobody has locked, as a store has that is open.
func removeUnused(name string) {
	f, err := os.Open(name)
	if err != nil {
		return
	}
	defer f.Close()
	if lock(f, 0) != nil {
		return
	}
	if runtime.GOOS == "windows" {
		f.Close() // an open file cannot be removed there, one that is a store neither
	}
	os.Remove(name)
}

// asideBefore returns the name that path was given by a putAside whose process
// did not get to replace it, "" if there is none.
func asideBefore(path string) string {
	file, err := os.Stat(path)
	if err != nil {
		return ""
	}
	for _, name := range beside(path, damagedInfix) {
		if other, err := os.Stat(name); err == nil && os.SameFile(file, other) {
			return name
		}
	}
	return ""
}

// beside returns the names of files in path's directory that begin with path and infix.
func beside(path, infix string) (names []string) {
	entries, _ := os.ReadDir(filepath.Dir(path)) // what can be read of it
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), filepath.Base(path)+infix) {
			names = append(names, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	return names
}
