package bolt_test

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

func TestOpenTwice(t *testing.T) {
	path := tempPath(t)
	s := open(t, path)
	_, err := bolt.Open(path, bolt.WithLockTimeout(60*time.Millisecond))
	if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("a second Open: %v, want ErrInUse with the path", err)
	}
	closed(t, s)
	closed(t, open(t, path))
	onlyFile(t, path)
}

// childHold opens the file and holds it until its input ends.
func childHold() {
	s, err := bolt.Open(os.Args[1])
	must(err)
	os.Stdout.WriteString("open\n")
	bufio.NewReader(os.Stdin).ReadByte()
	must(s.Close())
}

func TestOpenInAnotherProcess(t *testing.T) {
	path := tempPath(t)
	cmd := child(t, "hold", path)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "open\n" {
		t.Fatalf("%q, %v", line, err)
	}
	_, err := bolt.Open(path, bolt.WithLockTimeout(60*time.Millisecond))
	if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("Open: %v, want ErrInUse with the path", err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	closed(t, open(t, path))
}

// What is not ours is left alone, also with WithSalvage.
func TestForeignFile(t *testing.T) {
	foreign := map[string]func(t *testing.T, path string){
		"text": func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("not a database\n", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"bbolt": func(t *testing.T, path string) {
			raw(t, path, func(tx *bbolt.Tx) error {
				b, err := tx.CreateBucket([]byte("theirs"))
				if err != nil {
					return err
				}
				return b.Put([]byte("k"), []byte("v"))
			})
		},
		"damaged bbolt": func(t *testing.T, path string) {
			raw(t, path, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
			unlist(t, path)
		},
		"empty bbolt": func(t *testing.T, path string) { raw(t, path, func(*bbolt.Tx) error { return nil }) },
		"damaged newer format": func(t *testing.T, path string) {
			closed(t, open(t, path))
			raw(t, path, func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte("millrace")).Put([]byte("format"), []byte{0, 0, 0, 2})
			})
			unlist(t, path)
		},
		"newer format": func(t *testing.T, path string) {
			closed(t, open(t, path))
			raw(t, path, func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte("millrace")).Put([]byte("format"), []byte{0, 0, 0, 2})
			})
		},
		"directory": func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, make := range foreign {
		t.Run(name, func(t *testing.T) {
			path := tempPath(t)
			make(t, path)
			before, _ := os.ReadFile(path)
			_, err := bolt.Open(path, bolt.WithSalvage(), bolt.WithCompaction())
			if _, ok := errors.AsType[*bolt.FormatError](err); !ok || !strings.Contains(err.Error(), path) {
				t.Errorf("Open: %v, want a FormatError with the path", err)
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the file was changed")
			}
			onlyFile(t, path)
		})
	}
}

func TestNoSuchDirectory(t *testing.T) {
	if _, err := bolt.Open(filepath.Join(t.TempDir(), "none", "f")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open: %v, want fs.ErrNotExist", err)
	}
}

func TestOptionsChecked(t *testing.T) {
	path := tempPath(t)
	_, err := bolt.Open(path, bolt.WithLimits(-1, 0), bolt.WithMaxFile(1), bolt.WithFileMode(0o400), bolt.WithLockTimeout(0))
	for _, name := range []string{"WithLimits", "WithMaxFile", "WithFileMode", "WithLockTimeout"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Open: %v, want a word on %s", err, name)
		}
	}
	if _, err := bolt.Open(path, nil); err == nil {
		t.Error("Open took a nil option")
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made: %v", err)
	}
}

// A link to the file keeps being one, and means the same file.
func TestSymbolicLink(t *testing.T) {
	path := tempPath(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Skip(err)
	}
	closed(t, open(t, path))
	s := open(t, link)
	if s.Path() != path {
		t.Errorf("Path: %s, want %s", s.Path(), path)
	}
	if _, err := bolt.Open(path, bolt.WithLockTimeout(60*time.Millisecond)); !errors.Is(err, store.ErrInUse) {
		t.Errorf("Open: %v, want ErrInUse", err)
	}
}

// A link to no file yet is one to the file that is made.
func TestSymbolicLinkToNothing(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	link, deep := filepath.Join(dir, "link"), filepath.Join(dir, "link to link")
	path := filepath.Join(other, "sessions.db")
	if err := errors.Join(os.Symlink(path, link), os.Symlink("link", deep)); err != nil {
		t.Skip(err)
	}
	s := open(t, deep)
	if s.Path() != path {
		t.Errorf("Path: %s, want %s", s.Path(), path)
	}
	closed(t, s)
	onlyFile(t, path)
	closed(t, open(t, link))
	onlyFile(t, path)
}

// A creation that was cut short between the two names of its file leaves none behind.
func TestOpenRemovesTheSecondName(t *testing.T) {
	path := tempPath(t)
	closed(t, open(t, path))
	second := path + ".millrace-new-5"
	if err := os.Link(path, second); err != nil {
		t.Fatal(err)
	}
	closed(t, open(t, path))
	if _, err := os.Stat(second); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s stays: %v", second, err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// What a killed process left is removed; a store of another name is not, whatever that
// is, nor what is no file.
func TestSweptFiles(t *testing.T) {
	path := tempPath(t)
	stays := []string{path + ".new-20261124", path + ".millrace-new-copy", path + ".millrace-new-1"}
	for _, name := range stays {
		open(t, name)
	}
	dir, left := path+".millrace-new-2", path+".millrace-new-3"
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(left, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	closed(t, open(t, path))
	for _, name := range append(stays, dir) {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s stays: %v", left, err)
	}
}
