package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// note is a file of numbers, one a line, that one process writes.
type note struct{ *os.File }

func notePath(dir, kind string, lane, incarnation int) string {
	return filepath.Join(dir, fmt.Sprintf("%s-%d-%d", kind, lanes[lane], incarnation))
}

func createNote(dir, kind string, lane, incarnation int) (note, error) {
	f, err := os.OpenFile(notePath(dir, kind, lane, incarnation), os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o600)
	return note{f}, err
}

// write notes a number. What cannot be noted must not be acknowledged, and
// nothing can be said of it either: the process ends.
func (f note) write(n int) {
	if _, err := f.Write(append(strconv.AppendInt(nil, int64(n), 10), '\n')); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// sight is a number as it stands in the notes of one process.
type sight struct {
	n           int
	incarnation int
}

// notes follows the notes of one kind and lane through all processes.
type notes struct {
	dir, kind string
	lane      int
	sights    []sight // so far, in their order
	ended     bool    // the end mark is among them

	incarnation int // whose note is being read
	offset      int64
}

// follow reads what was added, up to the note of the latest process. An earlier
// process has ended when a later one starts, so its note is whole.
func (f *notes) follow(latest int) error {
	for {
		if err := f.read(); err != nil {
			return err
		}
		if f.incarnation >= latest {
			return nil
		}
		f.incarnation, f.offset = f.incarnation+1, 0
	}
}

// read takes in the whole lines that were added to the current note.
func (f *notes) read() error {
	file, err := os.Open(notePath(f.dir, f.kind, f.lane, f.incarnation))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // not begun, or killed before
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	text := make([]byte, info.Size()-f.offset)
	if _, err := file.ReadAt(text, f.offset); err != nil && len(text) > 0 {
		return err
	}
	for {
		line, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			return nil // the write is in progress, or was when the process died
		}
		n, err := strconv.Atoi(string(line))
		if err != nil {
			return fmt.Errorf("%s: %w", file.Name(), err)
		}
		f.sights = append(f.sights, sight{n, f.incarnation})
		f.ended = f.ended || n == endMark
		f.offset += int64(len(line) + 1)
		text = rest
	}
}
