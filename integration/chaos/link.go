package chaos

import (
	"context"
	"io"
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
	spared         atomic.Bool     // left alone to its end
	until          [2]atomic.Int64 // up and down: stalled until then, in Unix nanoseconds
	ctx            context.Context // ends with the link
	cancel         context.CancelFunc
}

func (l *link) inShelter() bool { return l.sheltered && time.Since(l.began) < youngTime }

// pump copies one direction until its sender has ended it, which it passes on, either
// end fails, or the link is cut, which ends both directions.
func (l *link) pump(to, from net.Conn, down bool) {
	if !l.copy(to, from, down) {
		l.close()
		return
	}
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // an error says that it has ended
	}
}

// copy is pump, and reports whether it came to the end that the sender meant.
func (l *link) copy(to, from net.Conn, down bool) (ended bool) {
	left, planned := l.plan.cut[0], l.plan.cut[0] > 0
	if down {
		left, planned = l.plan.cut[1], l.plan.cut[1] > 0
	}
	for buf := make([]byte, 16<<10); ; {
		n, err := from.Read(buf)
		if n > 0 {
			pass := n
			planned = planned && !l.spared.Load()
			if planned {
				pass = min(n, left)
				left -= pass
			}
			if !l.delay(pass, down) {
				return false
			}
			l.record.Note(down, buf[:pass])
			if _, err := to.Write(buf[:pass]); err != nil {
				return false
			}
			if planned && left == 0 {
				l.proxy.cuts.Add(1)
				// In the orderly way, so that these bytes arrive: they are where it is cut.
				return false
			}
		}
		if err != nil {
			return err == io.EOF
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
	if rate := l.rate(); rate > 0 {
		d += time.Duration(n) * time.Second / time.Duration(rate)
	}
	if !pause(l.ctx, d) {
		return false
	}
	for {
		stalled := time.Until(time.Unix(0, until.Load()))
		if stalled <= 0 {
			return true
		}
		if !pause(l.ctx, min(stalled, pollEvery)) { // spare may end it
			return false
		}
	}
}

// rate returns how many bytes a second a direction carries now, 0 for no limit.
func (l *link) rate() int {
	switch {
	case l.spared.Load():
		return 0
	case l.proxy.isSlow():
		return slowRate
	}
	return l.plan.rate
}

func (l *link) close() {
	l.cancel()
	l.client.Close()
	l.server.Close()
}

// reset drops what is in flight.
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
