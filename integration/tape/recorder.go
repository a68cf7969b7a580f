package tape

import (
	"encoding/binary"
	"os"
	"sync"
)

// headSize is what stands before each piece of a tape: a byte that is 1 when the
// piece came from the broker, and the length of the piece.
const headSize = 1 + 4

// Recorder writes a tape. Its methods may be called from several goroutines.
type Recorder struct {
	mu   sync.Mutex
	file *os.File // guarded by mu
}

// Create begins a tape in a new file. The error is that of os.Create.
func Create(path string) (*Recorder, error) {
	f, err := os.Create(path)
	return &Recorder{file: f}, err
}

// Note adds bytes of one direction; down is from the broker. A tape that cannot
// be written, on a full disk, changes nothing of what is recorded.
func (r *Recorder) Note(down bool, p []byte) {
	head := make([]byte, headSize, headSize+len(p))
	if down {
		head[0] = 1
	}
	binary.BigEndian.PutUint32(head[1:], uint32(len(p)))
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = r.file.Write(append(head, p...))
}

// Close closes the file. What is noted later is not on the tape.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.file.Close()
}
