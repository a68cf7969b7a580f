package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/mqtt/integration/tape"
)

// proxy stands between one client and the broker. What it does to a link is
// drawn when the link begins, see plan, or told by cut and stall.
type proxy struct {
	name   string
	target string // the broker's address
	dir    string // where the wire is recorded
	ln     net.Listener
	ctx    context.Context // ends with the proxy
	cancel context.CancelFunc
	work   sync.WaitGroup // accept, and two pumps for each link

	cuts, stalls, slowed atomic.Int64 // links, by what was done to them
	slows                atomic.Int64 // times that its lines were slow
	slowUntil            atomic.Int64 // in Unix nanoseconds

	mu     sync.Mutex
	rng    *rand.Rand         // guarded by mu
	calm   bool               // guarded by mu; links are left alone
	spared bool               // guarded by mu; links are left alone while a process leaves
	links  map[*link]struct{} // guarded by mu
	count  int                // guarded by mu; links so far
	young  int                // guarded by mu; links in a row that ended young
}

func startProxy(name, brokerURL, dir string, rng *rand.Rand) (*proxy, error) {
	u, err := url.Parse(brokerURL)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{name: name, target: u.Host, dir: dir, ln: ln, rng: rng, links: map[*link]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.work.Go(p.accept)
	return p, nil
}

// url returns the address of the proxy instead of the broker's.
func (p *proxy) url(brokerURL string) string {
	u, err := url.Parse(brokerURL)
	if err != nil {
		return "" // startProxy has parsed it
	}
	u.Host = p.ln.Addr().String()
	return u.String()
}

func (p *proxy) close() {
	p.cancel()
	p.ln.Close()
	p.each((*link).reset)
	p.work.Wait()
}

func (p *proxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close() // the broker is down
			continue
		}
		if err := p.begin(client, server); err != nil {
			client.Close()
			server.Close()
		}
	}
}

func (p *proxy) begin(client, server net.Conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return p.ctx.Err() // close has reset the links that it found
	}
	p.count++
	record, err := tape.Create(filepath.Join(p.dir, fmt.Sprintf("wire-%s-%05d", p.name, p.count)))
	if err != nil {
		return err
	}
	l := &link{proxy: p, client: client, server: server, record: record, began: time.Now(), plan: p.draw(), sheltered: p.young >= youngLimit}
	l.ctx, l.cancel = context.WithCancel(p.ctx)
	p.links[l] = struct{}{}
	var pumps sync.WaitGroup
	l.spared.Store(p.spared)
	for _, conn := range []net.Conn{client, server} {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(readBuffer) // an error says that it has ended
		}
	}
	pumps.Go(func() { l.pump(server, client, false) })
	pumps.Go(func() { l.pump(client, server, true) })
	p.work.Go(func() {
		pumps.Wait()
		l.close()
		record.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.links, l)
		p.ended(l)
	})
	return nil
}

// ended counts a link that ended. p.mu is held.
func (p *proxy) ended(l *link) {
	switch {
	case time.Since(l.began) <= youngTime:
		p.young++
	case l.sheltered:
		p.young = 1 // the client may still probe
	default:
		p.young = 0
	}
}

// A client whose links died young twice in a row probes: it keeps the next one
// silent for a second, then sends what was in flight, one message at a time. A
// message that was alone in flight within a second of the death of a probing
// link, three times in a row, it sets aside. That is no loss without a word, but
// not what is tested here, and a proxy that cuts after some bytes meets a lone
// message more often than a network does. So after two links that ended young,
// or a sheltered one and another, the next is left alone until the message that
// was in flight before has passed.
const (
	youngLimit = 2
	// youngTime is the client's second of silence, the second in which a death
	// accuses, and the time that the handshakes take.
	youngTime = 2500 * time.Millisecond
)

const (
	// slowRate is what a slow line carries in each direction, in bytes a second.
	slowRate = 64 << 10
	// readBuffer limits what the kernel takes for the proxy. What a slow line has not
	// carried stays with its sender that way, as it does on a line between machines.
	readBuffer = 32 << 10
)

// plan is what is done to a link from its beginning.
type plan struct {
	latency time.Duration // of each piece
	rate    int           // bytes a second in each direction, 0 for no limit
	cut     [2]int        // up and down: bytes after which it is cut; 0 for never
}

// draw draws a plan. Most links are cut after some bytes in one direction, from
// within CONNECT to some thousand packets later. p.mu is held.
func (p *proxy) draw() plan {
	var d plan
	if p.calm || p.spared || p.isSlow() || p.young >= youngLimit {
		return d
	}
	if p.rng.IntN(2) == 0 {
		d.latency = time.Duration(p.rng.Int64N(int64(20 * time.Millisecond)))
	}
	if p.rng.IntN(4) == 0 {
		d.rate = 20_000 << p.rng.IntN(5)
		p.slowed.Add(1)
	}
	if p.rng.IntN(4) > 0 {
		// Each size as likely as its double.
		d.cut[p.rng.IntN(2)] = 1 + p.rng.IntN(16<<p.rng.IntN(18))
	}
	return d
}

// cut ends every link: in the orderly way, or by a reset that drops what is
// in flight.
func (p *proxy) cut(orderly bool) {
	p.each(func(l *link) {
		if l.inShelter() || l.spared.Load() {
			return
		}
		p.cuts.Add(1)
		if orderly {
			l.close()
		} else {
			l.reset()
		}
	})
}

// stall lets nothing through for d; neither side is told. A link that its
// client gives up meanwhile is still there for the broker.
func (p *proxy) stall(d time.Duration) {
	until := time.Now().Add(d).UnixNano()
	p.each(func(l *link) {
		if l.spared.Load() {
			return
		}
		p.stalls.Add(1)
		l.until[0].Store(until)
		l.until[1].Store(until)
	})
}

// mute holds back what the client sends for d; the broker's packets arrive.
func (p *proxy) mute(d time.Duration) {
	until := time.Now().Add(d).UnixNano()
	p.each(func(l *link) { l.until[0].Store(until) })
}

// slow makes every line slow for d, see slowRate.
func (p *proxy) slow(d time.Duration) {
	p.slows.Add(1)
	p.slowUntil.Store(time.Now().Add(d).UnixNano())
}

func (p *proxy) isSlow() bool { return time.Now().UnixNano() < p.slowUntil.Load() }

// spare begins or ends a time in which links are left alone: stalls and limits of
// those that live end too.
func (p *proxy) spare(yes bool) {
	p.mu.Lock()
	p.spared = yes
	p.mu.Unlock()
	if yes {
		p.each(func(l *link) {
			l.spared.Store(true)
			l.until[0].Store(0)
			l.until[1].Store(0)
		})
	}
}

// soothe ends all faults, and the links that have some.
func (p *proxy) soothe() {
	p.mu.Lock()
	p.calm = true
	p.mu.Unlock()
	p.slowUntil.Store(0)
	p.each(func(l *link) {
		if !l.sheltered {
			l.reset()
		}
	})
}

// sheltering reports whether a link must not be the next to end young.
func (p *proxy) sheltering() (yes bool) {
	p.each(func(l *link) { yes = yes || l.inShelter() })
	return yes
}

func (p *proxy) each(f func(*link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		f(l)
	}
}
