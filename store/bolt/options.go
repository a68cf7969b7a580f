// Options of Open.

package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/millrace/mqtt/store"
)

const (
	minFile         = 1 << 20 // smallest value of WithMaxFile
	defaultMode     = 0o600   // payloads are nobody else's business
	defaultLockWait = time.Second
)

// Option changes how Open opens a file. The functions that return one are all there
// are; Open refuses nil.
type Option interface {
	applyOpen(*config)
}

// optionFunc is an Option made of a function.
type optionFunc func(*config)

func (f optionFunc) applyOpen(c *config) { f(c) }

var errNilOption = errors.New("bolt: an option is nil: leave it out instead")

type config struct {
	limits   store.Limits
	maxFile  int64
	mode     fs.FileMode
	lockWait time.Duration
	salvage  bool
	compact  bool
}

func defaults() config { return config{mode: defaultMode, lockWait: defaultLockWait} }

// validate joins all problems.
func (c *config) validate() error {
	var problems []error
	if c.limits.Messages < 0 || c.limits.Bytes < 0 {
		problems = append(problems, fmt.Errorf("bolt: WithLimits: %+v: want 0 or more", c.limits))
	}
	if c.maxFile != 0 && c.maxFile < minFile {
		problems = append(problems, fmt.Errorf("bolt: WithMaxFile: %d bytes: want 0, or %d or more", c.maxFile, minFile))
	}
	if c.mode&^fs.ModePerm != 0 || c.mode&0o600 != 0o600 {
		problems = append(problems, fmt.Errorf("bolt: WithFileMode: %v: want permission bits with read and write for the owner", c.mode))
	}
	if c.lockWait <= 0 {
		problems = append(problems, fmt.Errorf("bolt: WithLockTimeout: %v: want more than 0", c.lockWait))
	}
	return errors.Join(problems...)
}

// WithLimits bounds what each session may hold: messages to send, and the bytes
// of their records together. 0 sets no limit, which is the default. A Commit
// beyond one returns [store.ErrFull].
func WithLimits(messages int, bytes int64) Option {
	return optionFunc(func(c *config) { c.limits = store.Limits{Messages: messages, Bytes: bytes} })
}

// WithMaxFile bounds the size of the file in bytes, 1 MiB at least; 0, the
// default, sets no bound. A Commit that would need more returns
// [store.ErrFull].
//
// Of the bound an eighth, 256 KiB at least, is kept for what is not a message to
// send: a quarter of that for messages that arrived and a quarter for notes on how
// far messages are. The other half is for deletions alone, which write anew what
// stays of a page, so that a full store can be emptied. For the same reason a record
// has a 128th of the bound at most, 16 KiB at least; a Commit with a larger one
// returns a [SizeError]. Where what is free lies in many pieces, less than the bound
// is used. A batch of deletions is never refused: should it change so many pages at
// once that there is no other way, the file exceeds the bound.
//
// The rewriting of [WithCompaction] and [WithSalvage] needs room for a second file.
func WithMaxFile(bytes int64) Option {
	return optionFunc(func(c *config) { c.maxFile = bytes })
}

// WithFileMode sets the permission bits of a file that Open makes, less the
// umask; 0o600 is the default. A file that exists keeps its own, and its owner, also
// where it is written anew, for which a process must be allowed to give it away;
// access lists and the like it does not keep then.
func WithFileMode(mode fs.FileMode) Option {
	return optionFunc(func(c *config) { c.mode = mode })
}

// WithLockTimeout says how long Open waits for another process to let go of the
// file; 1 s is the default.
func WithLockTimeout(d time.Duration) Option {
	return optionFunc(func(c *config) { c.lockWait = d })
}

// WithSalvage lets Open put a damaged file aside, under its own name with
// ".damaged-" and the time added, and go on with a new one that has the records
// found on sound pages. [Store.Salvaged] tells. Without it Open returns a
// [CorruptError]. A file that the system fails to read is not salvaged, as what
// cannot be read now may be sound: Open returns the system's error. Nor is one of
// which something tells that it is not a store of sessions, or one of a newer
// version: that is a [FormatError]. One of which nothing
// tells what it was is put aside.
func WithSalvage() Option {
	return optionFunc(func(c *config) { c.salvage = true })
}

// WithCompaction lets Open write the file anew when it is larger than 1 MiB and
// more than half of it is free. A crash in between leaves the old file or the
// new one. Where there is no room for a new one, or no permission to make it, Open
// goes on with the file as it is, and [Store.Uncompacted] tells why.
func WithCompaction() Option {
	return optionFunc(func(c *config) { c.compact = true })
}
