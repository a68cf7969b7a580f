package chaos

import (
	"encoding/binary"
	"os"
	"sync"
)

// record is what passed through one link, on disk: evidence for when a message
// is missing. Bytes are noted before they are passed on, so that every packet
// stands before its answer; the last ones before a cut may not have arrived.
type record struct {
	mu   sync.Mutex
	file *os.File // guarded by mu
}

func createRecord(path string) (*record, error) {
	f, err := os.Create(path)
	return &record{file: f}, err
}

// note adds bytes of one direction. A record that cannot be written, on a full
// disk, changes nothing of what is recorded.
func (r *record) note(down bool, p []byte) {
	head := []byte{0, 0, 0, 0, 0}
	if down {
		head[0] = 1
	}
	binary.BigEndian.PutUint32(head[1:], uint32(len(p)))
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = r.file.Write(append(head, p...))
}

// Close closes the file.
func (r *record) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.file.Close()
}
