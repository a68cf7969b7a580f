package chaos

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
)

// A child that is not killed may be told to leave in the middle of everything: it
// ends its Conn in one of these ways, and the process.
var waysToLeave = []string{"close", "drain", "disconnect", "context"}

// leaveTime bounds the wait for a link before the end, and for the end.
const leaveTime = 10 * time.Second

// orders are what the parent tells a child.
type orders struct {
	stop  context.Context // ends when the child is to finish its work, or the parent has died
	leave chan string     // receives a way to leave, at most once
}

// readOrders reads a way to leave, if a line with one comes, until in ends.
func readOrders(in io.Reader) orders {
	stop, cancel := context.WithCancel(context.Background())
	o := orders{stop: stop, leave: make(chan string, 1)}
	go func() { // ends with the parent's end of the pipe, or the process
		for lines := bufio.NewScanner(in); lines.Scan(); {
			select {
			case o.leave <- lines.Text():
			default:
			}
		}
		cancel()
	}()
	return o
}

// departure watches the links of a Conn, to tell whether its end was one after which
// the broker publishes no will: over the link that had the mark a DISCONNECT was sent,
// and that link was the last.
//
// The mark is the only publish of QoS 0 that a child makes. A will of an earlier link
// comes before it, since the broker publishes that at the latest when the next link
// begins.
type departure struct {
	settings *settings
	watched  chan struct{} // closed when ended will not change any more

	marked, sent, ended atomic.Uint32 // links: of the mark, of a DISCONNECT, and the last if this side ended it

	mu      sync.Mutex
	leaving bool                       // guarded by mu
	came    [len(lanes)]map[int]uint32 // guarded by mu; by number: the link on which a message came last
}

func newDeparture(s *settings) *departure {
	d := &departure{settings: s, watched: make(chan struct{})}
	for lane := range lanes {
		d.came[lane] = map[int]uint32{}
	}
	return d
}

// see is for the packet hook.
func (d *departure) see(p mqtt.PacketInfo) {
	switch {
	case !p.Sent:
		if p.Type == codec.PUBLISH && p.QoS > 0 {
			d.arrived(p)
		}
	case p.Type == codec.PUBLISH && p.QoS == 0:
		d.marked.Store(p.Link)
	case p.Type == codec.DISCONNECT:
		d.sent.Store(p.Link)
	}
}

// arrived notes a message that came before the process was told to leave.
func (d *departure) arrived(p mqtt.PacketInfo) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n, sound := parse(p.Payload); sound && !d.leaving {
		d.came[p.QoS-1][n] = p.Link
	}
}

// noteSettled notes what came on the last link before the process was told to leave:
// what of it was handed over the broker has an acknowledgement for. Of what came on an
// earlier link it may have none.
func (d *departure) noteSettled(link uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for lane := range lanes {
		settled, err := createNote(d.settings.Dir, "settled", lane, d.settings.Incarnation)
		if err != nil {
			return err
		}
		for n, on := range d.came[lane] {
			if on == link {
				settled.write(n)
			}
		}
		if err := settled.Close(); err != nil {
			return err
		}
	}
	return nil
}

// watch follows the links of conn until its end.
func (d *departure) watch(conn *mqtt.Conn) {
	events := conn.Watch(context.Background())
	go func() { // ends with conn
		defer close(d.watched)
		for ev := range events {
			if e, ok := ev.(mqtt.Disconnected); ok {
				d.ended.Store(0)
				if errors.Is(e.Err, mqtt.ErrClosed) {
					d.ended.Store(e.Link)
				}
			}
		}
	}()
}

// leave ends conn in one of waysToLeave, and notes it if it was a graceful end.
func (d *departure) leave(conn *mqtt.Conn, cancel context.CancelFunc, way string) error {
	d.mu.Lock()
	d.leaving = true
	d.mu.Unlock()
	d.settings.leaving.Store(true)
	// On 3.1.1 nothing tells a cut by which the broker refused a filter from its close
	// behind our DISCONNECT: what was said last may be lost then.
	refused := d.settings.asking.Load()
	ctx, stop := context.WithTimeout(context.Background(), leaveTime)
	defer stop()
	if err := conn.WaitConnected(ctx); err == nil {
		m := mqtt.Message{Topic: willTopic(d.settings.Role, d.settings.Incarnation), Payload: []byte(leaves)}
		_ = conn.Publish(ctx, m).Wait(ctx) // an error is a link that died, which marked and ended tell
	}
	var err error
	switch way {
	case "close":
		err = conn.Close()
	case "drain":
		err = conn.Drain(ctx)
	case "disconnect":
		err = conn.Disconnect(ctx)
	case "context":
		cancel()
	default:
		return fmt.Errorf("no way to leave: %q", way)
	}
	<-conn.Done()
	<-d.watched
	link := d.marked.Load()
	fmt.Fprintf(os.Stderr, "left by %s: %v; mark on link %d, DISCONNECT on %d, ended %d\n", way, err, link, d.sent.Load(), d.ended.Load())
	if refused || link == 0 || link != d.sent.Load() || link != d.ended.Load() {
		return nil
	}
	if d.settings.Role == "receiver" {
		if err := d.noteSettled(link); err != nil {
			return err
		}
	}
	return os.WriteFile(d.settings.gracePath(), []byte(way), 0o600)
}

// leaves is the payload of the mark, gone that of the will.
const leaves, gone = "leaves", "gone"

func willTopic(role string, incarnation int) string {
	return fmt.Sprintf("%s%s/%d", willTopics, role, incarnation)
}

// willTopics is where marks and wills are published.
const willTopics = "chaos-wills/"

// gracePath is the file that says that a process ended gracefully.
func (s *settings) gracePath() string {
	return filepath.Join(s.Dir, fmt.Sprintf("graceful-%s-%d", s.Role, s.Incarnation))
}

// leave has the process leave while faults pause, and waits for its end.
func (p *process) leave(way string, at *proxy) error {
	at.spare(true)
	defer at.spare(false)
	if _, err := io.WriteString(p.input, way+"\n"); err != nil {
		return errors.Join(err, p.failure())
	}
	timer := time.NewTimer(4 * leaveTime)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		p.kill()
		return fmt.Errorf("the %s did not leave by %s within %v, see %s", p.settings.Role, way, 4*leaveTime, p.logPath())
	}
	if p.err != nil {
		return p.failure()
	}
	p.left++
	switch _, err := os.Stat(p.settings.gracePath()); {
	case err == nil:
		p.graceful[p.settings.Incarnation] = true
		p.wills.awaitMark(willTopic(p.settings.Role, p.settings.Incarnation))
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return nil
}
