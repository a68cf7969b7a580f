package bolt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/internal/rerun"
	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

func tempPath(t testing.TB) string { return filepath.Join(t.TempDir(), "sessions.db") }

func open(t testing.TB, path string, opts ...bolt.Option) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(path, opts...)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func closed(t testing.TB, s *bolt.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func session(t testing.TB, s *bolt.Store, clientID string) store.Session {
	t.Helper()
	sess, err := s.Session(clientID)
	if err != nil {
		t.Fatalf("Session: %v", err)
	}
	return sess
}

func put(kind store.Kind, seq uint64, value []byte) store.Op {
	return store.Op{Key: store.Key{Kind: kind, Seq: seq}, Body: value}
}

func del(kind store.Kind, seq uint64) store.Op {
	return store.Op{Key: store.Key{Kind: kind, Seq: seq}, Delete: true}
}

func commit(t testing.TB, s store.Session, ops ...store.Op) {
	t.Helper()
	if err := s.Commit(ops); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

// load returns sound and damaged records.
func load(t testing.TB, s store.Session) (sound map[store.Key]string, bad []*store.DamageError) {
	t.Helper()
	sound = make(map[store.Key]string)
	err := s.Load(func(e store.Entry) error {
		if e.Err != nil {
			d, ok := errors.AsType[*store.DamageError](e.Err)
			if !ok {
				t.Errorf("record %s: %v, want a DamageError", e.Key, e.Err)
			}
			bad = append(bad, d)
			return nil
		}
		sound[e.Key] = string(e.Value)
		return nil
	})
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return sound, bad
}

// content is the value of a record in tests that must tell right from wrong.
func content(key store.Key, n int) []byte {
	return bytes.Repeat(binary.BigEndian.AppendUint64([]byte{byte(key.Kind)}, key.Seq), n/9+1)[:n]
}

// raw changes the file with bbolt, as a bug or a foreign program would.
func raw(t testing.TB, path string, f func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err == nil {
		err = errors.Join(db.Update(f), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// recordsBucket names the bucket of client c's records of a kind.
func recordsBucket(kind store.Kind) []byte { return []byte{'s', 0, 1, 'c', byte(kind)} }

// within fails a test in which f hangs.
func within(t testing.TB, d time.Duration, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { // it stays behind if it hangs, which ends the test
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatalf("hangs for %v", d)
	}
}

// child is this test binary as a process that does name with args.
func child(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := rerun.Command(context.Background(), args...)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// must ends a child that cannot go on.
func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
