package mqtt_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/store"
)

// stored is a message that waits, stored, in a process without a server.
func stored(t *testing.T, v mqtt.Version) (*disk, *storedScript, *mqtt.Future) {
	t.Helper()
	d := newDisk()
	s := d.script(t, v, false)
	s.offline()
	f := s.conn.Publish(t.Context(), keyed("k", 1))
	if err := f.WaitStored(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d, s, f
}

// keptError is the outcome of f, which must wrap want.
func keptError(t *testing.T, f *mqtt.Future, want error) *mqtt.PublishError {
	t.Helper()
	err := outcome(t, f)
	p, ok := errors.AsType[*mqtt.PublishError](err)
	if !ok || !errors.Is(err, want) {
		t.Fatalf("%v, want %v", err, want)
	}
	return p
}

// B3, B6: a message that was taken back is given up only when it is gone from the
// store: until then a process that dies leaves it to the next.
func TestB03_CanceledFutureWaitsForTheStore(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d, s, f := stored(t, v)
		s.hold()
		if !f.Cancel() || s.conn.Lookup("k") != nil {
			t.Error("not cancelled")
		}
		pending(t, f)
		s.crash()
		s = d.script(t, v, false)
		s.expectPublish(0x32, 1, "t", "k")
	})
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d, s, f := stored(t, v)
		s.hold()
		f.Cancel()
		s.letGo()
		if p := keptError(t, f, mqtt.ErrCanceled); p.Kept {
			t.Errorf("%v, though it is gone", p)
		}
		s.crash()
		checkEmpty(t, d)
	})
}

// The same for what the server refused, while the link goes on.
func TestB03_RefusedFutureWaitsForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		s := d.script(t, mqtt.V5, false)
		f := s.conn.Publish(t.Context(), keyed("k", 1))
		s.expectPublish(0x32, 1, "t", "k")
		s.hold()
		s.Send("40 03 0001 87")
		pending(t, f)
		flushed := make(chan error, 1)
		go func() { flushed <- s.conn.Flush(t.Context()) }()
		synctest.Wait()
		if len(flushed) > 0 {
			t.Error("flushed while a Future is pending")
		}
		s.open()
		if p := keptError(t, f, mqtt.ErrNotAuthorized); p.Kept {
			t.Errorf("%v", p)
		}
		if err := <-flushed; err != nil {
			t.Error(err)
		}
	})
}

// B3: a message that cannot be deleted is said to be kept, however it ended.
func TestB03_CanceledMessageThatStays(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d, s, f := stored(t, v)
		s.p.failing(everything)
		f.Cancel()
		<-s.conn.Done() // the store failed for good
		if p := keptError(t, f, mqtt.ErrCanceled); !p.Kept {
			t.Errorf("%v, though it stays", p)
		}
		s = d.script(t, v, false)
		s.expectPublish(0x32, 1, "t", "k")
	})
}

// B3: a commit that hangs beyond the close timeout may go through: what it brings
// into the store, or takes out, may be there.
func TestB03_CommitHangsBeyondClose(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d, s, canceled := stored(t, v)
		s.hold()
		f := s.conn.Publish(t.Context(), keyed("new", 1))
		synctest.Wait()
		canceled.Cancel()
		s.conn.Close()
		if p := keptError(t, f, mqtt.ErrClosed); !p.Kept {
			t.Errorf("%v, though it may be there", p)
		}
		if p := keptError(t, canceled, mqtt.ErrCanceled); !p.Kept {
			t.Errorf("%v, though it may be there", p)
		}
		s.open()
		time.Sleep(time.Second)
		s = d.script(t, v, false)
		s.expectPublish(0x32, 1, "t", "new")
		s.ExpectNothing(time.Minute)
	})
}

// B22: of a commit whose outcome is uncertain each message may be in the store.
func TestB22_UncertainCommitMayKeep(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := newDisk()
		s := d.script(t, v, false)
		s.p.mu.Lock()
		s.p.fail = func([]store.Op) error { return store.ErrUncertain }
		s.p.mu.Unlock()
		f := s.conn.Publish(t.Context(), keyed("k", 1))
		if p := keptError(t, f, store.ErrUncertain); !p.Kept {
			t.Errorf("%v, though it may be there", p)
		}
		<-s.conn.Done()
	})
}

// B22, B3: the same of a message that was taken back while that commit was under way.
func TestB22_UncertainCommitMayKeepTheCanceled(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().script(t, v, false)
		s.p.mu.Lock()
		s.p.fail = func([]store.Op) error { return store.ErrUncertain }
		s.p.mu.Unlock()
		s.hold()
		f := s.conn.Publish(t.Context(), keyed("k", 1))
		synctest.Wait()
		if !f.Cancel() {
			t.Fatal("not cancelled")
		}
		pending(t, f)
		s.open()
		if p := keptError(t, f, mqtt.ErrCanceled); !p.Kept {
			t.Errorf("%v, though it may be there", p)
		}
		<-s.conn.Done()
	})
}
