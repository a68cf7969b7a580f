package mqtt_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
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

// A message that was taken back is given up only when it is gone from the
// store: until then a process that dies leaves it to the next.
func TestCanceledFutureWaitsForTheStore(t *testing.T) {
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
func TestRefusedFutureWaitsForTheStore(t *testing.T) {
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

// A message that cannot be deleted is said to be kept, however it ended.
func TestCanceledMessageThatCannotBeDeletedIsKept(t *testing.T) {
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

// A commit that hangs beyond the close timeout may go through: what it brings
// into the store, or takes out, may be there.
func TestCommitHangsBeyondClose(t *testing.T) {
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

// Of a commit whose outcome is uncertain each message may be in the store.
func TestUncertainCommitMayKeep(t *testing.T) {
	onDisk(t, func(t *testing.T, v mqtt.Version, d *disk, s *storedScript) {
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

// A message that the server refuses while the writer still has its payload is
// given up when it is gone from the store, as any other, and then at once.
func TestRefusedBeforeItIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newDisk().script(t, mqtt.V5, false)
		payload := strings.Repeat("x", 2*server.DefaultBufferSize) // the writer waits for the peer to read
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte(payload), QoS: 1})
		synctest.Wait()
		s.hold()
		s.Send("40 03 0001 87")
		synctest.Wait()
		s.expectPublish(0x32, 1, "t", payload)
		pending(t, f)
		s.letGo()
		if p := keptError(t, f, mqtt.ErrNotAuthorized); p.Kept {
			t.Errorf("%v", p)
		}
	})
}

// A message that was taken back before its commit failed was never in the
// store: its Future says so at once, though the rest of that batch is tried again.
func TestCanceledAndNeverStored(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		s := newDisk().script(t, v, false)
		s.conn.Publish(t.Context(), keyed("a", 2))
		s.expectPublish(0x34, 1, "t", "a")
		s.hold()
		s.conn.Publish(t.Context(), keyed("first", 1)) // a batch of its own
		synctest.Wait()
		f := s.conn.Publish(t.Context(), keyed("k", 1))
		s.sendAck(0x50, 1) // a note in the batch of "k"
		if !f.Cancel() {
			t.Fatal("not cancelled")
		}
		pending(t, f)
		s.p.failing(everything)
		s.open()
		if p := keptError(t, f, mqtt.ErrCanceled); p.Kept || s.conn.Err() != nil {
			t.Errorf("%v, the Conn: %v", p, s.conn.Err())
		}
	})
}

// The same of a message that was taken back while that commit was in progress.
func TestUncertainCommitMayKeepTheCanceled(t *testing.T) {
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

// The commit that counts is the one that deletes the message, not the one that
// was in progress when it was taken back.
func TestCanceledFutureWaitsForItsOwnBatch(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d, s, f := stored(t, v)
		s.hold()
		s.conn.Publish(t.Context(), keyed("other", 1))
		synctest.Wait()
		f.Cancel()
		s.letGo()
		pending(t, f)
		s.letGo()
		if p := keptError(t, f, mqtt.ErrCanceled); p.Kept {
			t.Errorf("%v, though it is gone", p)
		}
		s.crash()
		s = d.script(t, v, false)
		s.expectPublish(0x32, 1, "t", "other")
	})
}

// What an earlier process wrote may have arrived, although this one never got
// to the server.
func TestWrittenByAnEarlierProcessMayHaveArrived(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		network := &server.Network{}
		network.RefuseDials(-1, nil)
		conn := written(t, v).process(network).connect(t, v)
		var fs []*mqtt.Future
		for _, key := range []string{"a", "b", "c", "d"} {
			fs = append(fs, conn.Lookup(key))
		}
		conn.Abort()
		for _, f := range fs {
			if p := keptError(t, f, mqtt.ErrClosed); !p.Kept || !p.MayHaveArrived {
				t.Errorf("%v", p)
			}
		}
	})
}
