package broker

import (
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"

	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/millrace/mqtt/integration/tape"
)

// taped is a listener whose links are recorded where mochi reads and writes them:
// in plain MQTT, whatever is below.
type taped struct {
	listeners.Listener
	dir   string
	count *atomic.Int64 // links of all listeners
}

// Serve implements listeners.Listener.
func (l *taped) Serve(establish listeners.EstablishFn) {
	l.Listener.Serve(func(id string, conn net.Conn) error {
		r, err := tape.Create(filepath.Join(l.dir, fmt.Sprintf("tape-%06d", l.count.Add(1))))
		if err != nil {
			return err
		}
		defer r.Close()
		return establish(id, &tapedConn{Conn: conn, tape: r}) // returns when the link has ended
	})
}

// tapedConn is one link of a taped listener.
type tapedConn struct {
	net.Conn
	tape *tape.Recorder
}

// Read implements net.Conn.
func (c *tapedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.tape.Note(false, p[:n])
	}
	return n, err
}

// Write implements net.Conn.
func (c *tapedConn) Write(p []byte) (int, error) {
	c.tape.Note(true, p)
	return c.Conn.Write(p)
}

// Tapes returns the tapes of a mochi's links so far, see MochiOptions, in the
// order in which the links began.
func Tapes(dir string) ([]string, error) {
	return filepath.Glob(filepath.Join(dir, "tape-*")) // in the order of their names
}
