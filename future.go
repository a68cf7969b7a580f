package mqtt

import (
	"context"
	"errors"
	"sync"

	"github.com/millrace/mqtt/codec"
)

// Stage is how far a publish has come.
type Stage uint8

// The stages of a publish, in the order in which they compare. A stage may be added between
// two of them; the order of the others stays.
const (
	// StageQueued: accepted, and not yet handed to the writer of a link; or, after
	// a later stage, to be published anew because the server lost the session.
	StageQueued Stage = iota
	// StageStored: still queued, and durable in the session store, so that it
	// survives the process. Without a store this stage is left out.
	StageStored
	// StageSent: appended to the buffer of a link's writer, so that the server may have it.
	StageSent
	// StageReceived: the server answered a QoS 2 message by PUBREC and owns it.
	StageReceived
	// StageDone: resolved; Err says how.
	StageDone
)

// String names the stage.
func (s Stage) String() string {
	return valueName("stage", uint8(s), "queued", "stored", "sent", "received", "done")
}

// Future is the outcome of one publish. It resolves exactly once, and with nil
// only when the server has the message: for QoS 0 when its bytes were written to
// the network, for QoS 1 at PUBACK, for QoS 2 at PUBCOMP. It survives
// reconnects. With a session store it fails only once the message is gone from
// there, so that no later process sends what was given up.
//
// The Futures of QoS 0 messages written together may be one object.
type Future struct {
	message canceler // its message; immutable, nil on a Future that was made resolved

	mu     sync.Mutex    // guards the rest
	done   chan struct{} // made on demand
	stored chan struct{} // made on demand; closed when it is durable, or resolved
	err    error
	answer *answer // reason string and user properties of the ack, rarely there
	id     uint16
	code   codec.ReasonCode
	stage  Stage
	kept   bool // the session store has it, or had it
}

// canceler is the message of a Future, as far as Cancel knows it.
type canceler interface {
	// cancel takes the message back if it is still f's and still queued, and
	// reports whether it did.
	cancel(f *Future) bool
}

// answer is the rare part of an acknowledgement.
type answer struct {
	reason string
	user   []UserProperty
	cut    bool // there were more user properties
}

// Result is what the server said to a publish.
type Result struct {
	// PacketID is the packet identifier last used, 0 at QoS 0 or before sending.
	PacketID uint16
	// Code is the reason code of the PUBACK, or at QoS 2 of the PUBREC, also when the
	// PUBCOMP then reports a failure, whose code the Future's error has: 0 for
	// success, 0x10 when the server had no matching subscribers. It is 0 for a PUBREC
	// that an earlier process had.
	Code ReasonCode
	// Reason is the server's Reason String in that packet, if it gave one; at most 2 KiB.
	Reason string
	// User holds the user properties of that packet, at most about 4 KiB of them.
	User []UserProperty
	// UserCut says that the packet had more user properties.
	UserCut bool
}

// Done returns a channel that is closed when the Future resolves. It is the
// same channel on every call.
func (f *Future) Done() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done == nil {
		f.done = make(chan struct{})
		if f.stage == StageDone {
			close(f.done)
		}
	}
	return f.done
}

// Err returns [ErrPending] until the Future resolves, then nil or a
// *[PublishError] that says whether the server may have the message.
func (f *Future) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stage != StageDone {
		return ErrPending
	}
	return f.err
}

// Wait waits until the Future resolves and returns its error. The context
// bounds only this wait: when it ends first, Wait returns the context's cause,
// and the exchange goes on.
func (f *Future) Wait(ctx context.Context) error {
	if err := f.Err(); err != ErrPending {
		return err // without making a channel
	}
	select {
	case <-f.Done():
		return f.Err()
	case <-ctx.Done():
		if err := f.Err(); err != ErrPending {
			return err
		}
		return context.Cause(ctx)
	}
}

// WaitStored waits until the message is durable in the session store, from where
// it survives the process, and returns nil then. When the Future resolves before
// that, as it does without a store, it returns the Future's error. The context
// bounds only this wait.
func (f *Future) WaitStored(ctx context.Context) error {
	f.mu.Lock()
	if f.kept || f.stage == StageDone {
		err := f.err
		kept := f.kept
		f.mu.Unlock()
		if kept {
			return nil
		}
		return err
	}
	if f.stored == nil {
		f.stored = make(chan struct{})
	}
	stored := f.stored
	f.mu.Unlock()
	select {
	case <-stored:
		return f.WaitStored(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// WaitAll waits for all Futures and joins their errors. The context bounds the
// whole wait: when it ends first, its cause is among the errors, once.
func WaitAll(ctx context.Context, futures ...*Future) error {
	var errs []error
	pending := false
	for _, f := range futures {
		err := f.Wait(ctx)
		if err != nil && f.Err() == ErrPending {
			if pending {
				continue
			}
			pending = true
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Stage returns how far the publish has come.
func (f *Future) Stage() Stage {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stage
}

// Result returns what the server said so far; it is complete once the Future
// has resolved.
func (f *Future) Result() Result {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := Result{PacketID: f.id, Code: f.code}
	if f.answer != nil {
		r.Reason, r.User, r.UserCut = f.answer.reason, f.answer.user, f.answer.cut
	}
	return r
}

// PacketID returns the packet identifier last used, 0 at QoS 0 or before sending.
func (f *Future) PacketID() uint16 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.id
}

// Cancel takes the message back if it is still queued, so that this Conn never
// sends it, and reports whether it did. The Future then fails with [ErrCanceled].
//
// With a session store the Future stays pending until the message is gone from
// there too. A process that dies before that leaves the message to the next one,
// as [PublishError.Kept] says when the store does not let go of it.
func (f *Future) Cancel() bool {
	return f.message != nil && f.message.cancel(f)
}

// advance notes that the message was sent or received.
func (f *Future) advance(s Stage, id uint16) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stage != StageDone {
		f.stage, f.id = s, id
	}
}

// setAnswer notes the server's answer before the Future resolves.
func (f *Future) setAnswer(code codec.ReasonCode, a *answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.code, f.answer = code, a
}

// setStored notes that the message is durable.
func (f *Future) setStored() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept = true
	if f.stage == StageQueued {
		f.stage = StageStored
	}
	f.wakeStoredLocked()
}

// wakeStoredLocked ends the waits of WaitStored.
func (f *Future) wakeStoredLocked() {
	if f.stored != nil {
		close(f.stored)
		f.stored = nil
	}
}

// resolve ends the Future. Later calls change nothing.
func (f *Future) resolve(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stage == StageDone {
		return
	}
	f.stage, f.err = StageDone, err
	f.wakeStoredLocked()
	if f.done != nil {
		close(f.done)
	}
}

// resolution is a Future to resolve once the lock is released.
type resolution struct {
	fut      *Future
	err      error
	answer   *answer // with the code of the acknowledgement, when answered
	code     codec.ReasonCode
	answered bool
}

// resolve ends the Future of r.
func (r *resolution) resolve() {
	if r.answered {
		r.fut.answered(r.code, r.answer)
		return
	}
	r.fut.resolve(r.err)
}

// answered ends the Future well, by an acknowledgement.
func (f *Future) answered(code codec.ReasonCode, a *answer) {
	f.mu.Lock()
	if f.stage != StageDone {
		f.stage, f.code, f.answer = StageDone, code, a
		f.wakeStoredLocked()
		if f.done != nil {
			close(f.done)
		}
	}
	f.mu.Unlock()
}

// failed returns a Future that is resolved with err.
func failed(topic string, err error) *Future {
	return &Future{stage: StageDone, err: &PublishError{Topic: topic, Err: err}}
}
