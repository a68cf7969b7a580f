// Store and Session: what a client asks of the place where it keeps its session.

package store

import (
	"errors"
	"fmt"
)

// Errors that a Store and its Sessions return, wrapped or as they are.
var (
	// ErrClosed is returned for a Session or a Store that was closed.
	ErrClosed = errors.New("store: closed")
	// ErrInUse is returned for a session, or a file, that somebody else has open.
	ErrInUse = errors.New("store: in use")
	// ErrFull is returned by a Commit that would exceed a limit of the store.
	ErrFull = errors.New("store: full")
	// ErrUncertain is returned by a Commit whose last step failed, so that its ops
	// may or may not be durable, and by every call after it until the session is
	// opened anew, or the whole Store where that says so.
	ErrUncertain = errors.New("store: the last commit may or may not be durable")
	// ErrNotFound is returned by Read for a key that has no record.
	ErrNotFound = errors.New("store: no such record")
)

// Store holds sessions. Its methods may be called from any goroutine. No method will be
// added to it.
type Store interface {
	// Session opens the session of a client, an empty one when there is none.
	// It returns [ErrInUse] while the session is open.
	Session(clientID string) (Session, error)
}

// Session is what is kept for one client identifier: records of several kinds,
// each under a number of the client's own choice, never the packet identifier.
// Commit and Read may be called at the same time from two goroutines. No method will be
// added to it; what it may be able to do besides will be an interface of its own.
type Session interface {
	// Load calls visit for every record, ordered by kind and number. A record
	// that cannot be read or whose content is damaged is set aside, so that it is
	// met once and not again unless there is no room for that, and is visited with
	// Err set, in its place as far as its key is known. The value is only valid during the call. An error from
	// visit ends Load, which returns it. visit may call Commit and Read.
	Load(visit func(Entry) error) error

	// Commit carries out ops in order, all of them or none, also when the process
	// or the machine ends in the middle. When it returns nil they are durable.
	// After an error the records are what they were before, unless it wraps
	// [ErrUncertain]. It does not keep ops. A session that is beyond its limits,
	// because they were lowered, may shrink but not grow.
	Commit(ops []Op) error

	// Read calls visit for each of keys, in their order. The value is only valid
	// during the call. It returns an error that wraps [ErrNotFound] when one has no
	// record, and a *[DamageError] when its content is damaged. A Commit at the same
	// time is seen whole or not at all by up to 1,000 keys with 64 KiB in their values.
	Read(keys []Key, visit func(i int, value []byte) error) error

	// Limits returns what the session may hold.
	Limits() Limits

	// Close lets go of the session. What was committed stays.
	Close() error
}

// Kind sets records apart by what they are about. A Store gives it no meaning
// but the order.
type Kind uint8

// The kinds of records.
const (
	Meta     Kind = iota // about the session as a whole
	Outgoing             // a message to send
	Exchange             // how far the exchange of an Outgoing message is
	Incoming             // an open inbound QoS 2 exchange
	Inbox                // a message that the application has not acknowledged
)

// String names the kind.
func (k Kind) String() string {
	if names := [...]string{"meta", "outgoing", "exchange", "incoming", "inbox"}; int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Key names a record within a session.
type Key struct {
	Kind Kind   // what the record is about
	Seq  uint64 // the client's number for it
}

// String returns the key in words.
func (k Key) String() string { return fmt.Sprintf("%s %d", k.Kind, k.Seq) }

// Op writes a record, or deletes one.
type Op struct {
	// Key names the record.
	Key Key
	// Delete takes the record out; there need not be one.
	Delete bool
	// The value is Head followed by Body: two pieces, so that what describes a
	// payload and the payload need not be copied together first.
	Head, Body []byte
}

// Entry is a record as Load finds it.
type Entry struct {
	Key   Key    // as far as it is known of a damaged record
	Value []byte // valid during the visit only
	Err   error  // a *DamageError; Value is nil then
}

// Limits is what a session may hold. A field that is 0 sets no limit.
type Limits struct {
	Messages int   // records of kind Outgoing
	Bytes    int64 // their values together
}

// DamageError says that a record is not what was written.
type DamageError struct {
	Key     Key    // as far as it is known
	Problem string // what is wrong, for example "checksum"
	// Quarantine names where the damaged bytes were put, "" when there were none to keep.
	Quarantine string
}

// Error describes the damage.
func (e *DamageError) Error() string {
	s := fmt.Sprintf("store: record %s is damaged: %s", e.Key, e.Problem)
	if e.Quarantine != "" {
		s += "; its bytes are kept in " + e.Quarantine
	}
	return s
}
