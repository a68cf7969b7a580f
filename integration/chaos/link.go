package chaos

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/millrace/mqtt/integration/tape"
)

// link is one connection through a proxy.
type link struct {
	proxy          *proxy
	client, server net.Conn
	record         *tape.Recorder
	plan           plan
	began          time.Time
	sheltered      bool            // left alone until it is older than youngTime
	until          [2]atomic.Int64 // up and down: stalled until then, in Unix nanoseconds
	ctx            context.Context // ends with the link
	cancel         context.CancelFunc
}

func (l *link) inShelter() bool { return l.sheltered && time.Since(l.began) < youngTime }

// pump copies one direction until either end ends, the plan cuts the link or
// somebody else does.
func (l *link) pump(to, from net.Conn, down bool) {
	defer l.close()
	left, planned := l.plan.cut[0], l.plan.cut[0] > 0
	if down {
		left, planned = l.plan.cut[1], l.plan.cut[1] > 0
	}
	for buf := make([]byte, 16<<10); ; {
		n, err := from.Read(buf)
		if n > 0 {
			pass := n
			if planned {
				pass = min(n, left)
				left -= pass
			}
			if !l.delay(pass, down) {
				return
			}
			l.record.Note(down, buf[:pass])
			if _, err := to.Write(buf[:pass]); err != nil {
				return
			}
			if planned && left == 0 {
				l.proxy.cuts.Add(1)
				// In the orderly way, so that these bytes arrive: they are where it is cut.
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// delay waits as long as n bytes take, and reports whether the link still lives.
func (l *link) delay(n int, down bool) bool {
	until := &l.until[0]
	if down {
		until = &l.until[1]
	}
	d := l.plan.latency
	if l.plan.rate > 0 {
		d += time.Duration(n) * time.Second / time.Duration(l.plan.rate)
	}
	if !pause(l.ctx, d) {
		return false
	}
	for {
		stalled := time.Until(time.Unix(0, until.Load()))
		if stalled <= 0 {
			return true
		}
		if !pause(l.ctx, stalled) {
			return false
		}
	}
}

func (l *link) close() {
	l.cancel()
	l.client.Close()
	l.server.Close()
}

// reset drops what is under way.
func (l *link) reset() {
	for _, conn := range []net.Conn{l.client, l.server} {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // an error says that it has ended
		}
	}
	l.close()
}

// pause waits for d, and reports whether it did so before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
