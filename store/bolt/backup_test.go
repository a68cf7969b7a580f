package bolt_test

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

// restored opens a backup and returns what is in it for client c.
func restored(t *testing.T, backup []byte) map[store.Key]string {
	t.Helper()
	path := tempPath(t)
	if err := os.WriteFile(path, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	sound, bad := load(t, session(t, open(t, path), "c"))
	if len(bad) > 0 {
		t.Errorf("%d damaged records in the backup", len(bad))
	}
	return sound
}

func TestBackup(t *testing.T) {
	s := open(t, tempPath(t))
	sess := session(t, s, "c")
	commit(t, sess, put(store.Outgoing, 1, []byte("a")))
	var b bytes.Buffer
	if err := s.Backup(&b); err != nil {
		t.Fatal(err)
	}
	commit(t, sess, put(store.Outgoing, 2, []byte("b")))
	if sound := restored(t, b.Bytes()); len(sound) != 1 {
		t.Errorf("the backup has %d records, want 1", len(sound))
	}
	onlyFile(t, s.Path())
}

// slowWriter keeps what it is given, and waits at the first Write.
type slowWriter struct {
	got         bytes.Buffer
	begun, goOn chan struct{}
}

func (w *slowWriter) Write(b []byte) (int, error) {
	if w.got.Len() == 0 {
		close(w.begun)
		<-w.goOn
	}
	return w.got.Write(b)
}

// While the writer takes its time, commits make the file grow, sessions are read, and
// the Store is closed. The backup is of when it began.
func TestBackupToASlowWriter(t *testing.T) {
	s := open(t, tempPath(t))
	sess := session(t, s, "c")
	commit(t, sess, put(store.Outgoing, 0, nil))
	w := &slowWriter{begun: make(chan struct{}), goOn: make(chan struct{})}
	done := make(chan error)
	go func() { done <- s.Backup(w) }()
	<-w.begun
	if runtime.GOOS != "windows" {
		onlyFile(t, s.Path())
	}
	within(t, 10*time.Second, func() {
		for i := range uint64(20) {
			if err := sess.Commit([]store.Op{put(store.Outgoing, 1+i, make([]byte, 5000))}); err != nil {
				t.Errorf("Commit: %v", err)
			}
		}
		if err := errors.Join(sess.Load(func(store.Entry) error { return nil }), s.Close()); err != nil {
			t.Errorf("Load and Close: %v", err)
		}
		s.Stats()
	})
	close(w.goOn)
	if err := <-done; err != nil {
		t.Errorf("Backup: %v", err)
	}
	if sound := restored(t, w.got.Bytes()); len(sound) != 1 {
		t.Errorf("the backup has %d records, want 1", len(sound))
	}
	onlyFile(t, s.Path())
}

type writerFunc func() error

func (f writerFunc) Write([]byte) (int, error) { return 0, f() }

// What goes wrong with the writer is not taken for damage of the file.
func TestBackupToAFailingWriter(t *testing.T) {
	s := open(t, tempPath(t))
	broken := errors.New("broken")
	if err := s.Backup(writerFunc(func() error { return broken })); !errors.Is(err, broken) {
		t.Errorf("Backup: %v, want the writer's error", err)
	}
	func() {
		defer func() {
			if p := recover(); p != "a bug" {
				t.Errorf("Backup: panic %v, want the writer's own", p)
			}
		}()
		s.Backup(writerFunc(func() error { panic("a bug") }))
	}()
	onlyFile(t, s.Path())
	commit(t, session(t, s, "c"), put(store.Outgoing, 1, nil))
	closed(t, s)
	if err := s.Backup(new(bytes.Buffer)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Backup: %v, want ErrClosed", err)
	}
}

// Close waits until the copy on the disk is made, and Backup goes on without it.
func TestCloseBesideBackup(t *testing.T) {
	for range 20 {
		s, err := bolt.Open(tempPath(t))
		if err != nil {
			t.Fatal(err)
		}
		commit(t, session(t, s, "c"), put(store.Outgoing, 1, nil))
		var b bytes.Buffer
		done := make(chan error)
		go func() { done <- s.Backup(&b) }()
		closed(t, s)
		switch err := <-done; {
		case err == nil:
			if sound := restored(t, b.Bytes()); len(sound) != 1 {
				t.Errorf("the backup has %d records, want 1", len(sound))
			}
		case !errors.Is(err, store.ErrClosed):
			t.Errorf("Backup: %v, want nil or ErrClosed", err)
		}
	}
}
