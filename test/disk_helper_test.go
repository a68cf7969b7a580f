package mqtt_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/store"
)

// disk is a store that outlives the processes of a test. Each process sees it
// through a view of its own, which can die: what was committed before stays,
// nothing is written afterwards.
type disk struct{ mem *store.Memory }

func newDisk() *disk { return &disk{mem: store.NewMemory()} }

// process is one process's view of a disk.
type process struct {
	d       *disk
	network *server.Network

	mu      sync.Mutex
	rng     *rand.Rand // for the time a commit takes; nil: none
	commits int        // until the process dies; negative: it lives
	after   bool       // it dies after that commit, not before
	dead    bool
	fail    func(ops []store.Op) error // a fault of the disk, nil for none
	seen    func(ops []store.Op)       // sees what is committed, nil for none
	gate    chan struct{}              // each commit waits to receive from it, nil for no wait
}

// process starts one that lives until it is killed.
func (d *disk) process(network *server.Network) *process {
	return &process{d: d, network: network, commits: -1}
}

var errDead = errors.New("the process is dead")

// kill ends the process: its connections break, and it reaches neither disk nor network.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.die()
}

func (p *process) die() {
	if !p.dead {
		p.dead = true
		p.network.CutAll()
	}
}

func (p *process) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

func (p *process) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if p.isDead() {
		return nil, errDead
	}
	return p.network.Dial(ctx, network, addr)
}

// connect makes a Conn of this process with a durable session, nil when the
// process died over it.
func (p *process) connect(t *testing.T, v mqtt.Version, opts ...mqtt.ConnectOption) *mqtt.Conn {
	t.Helper()
	conn, err := mqtt.Connect(t.Context(), "mqtt://server", append([]mqtt.ConnectOption{
		mqtt.WithClientID("c"), mqtt.WithVersions(v), mqtt.WithDialer(p.dial), mqtt.WithBackoff(steady(time.Second)),
		mqtt.WithSession(time.Hour), mqtt.WithStore(p), mqtt.WithFirstConnect(mqtt.FirstConnectBackground),
	}, opts...)...)
	if p.isDead() && errors.Is(err, errDead) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Session implements store.Store.
func (p *process) Session(clientID string) (store.Session, error) {
	s, err := p.d.mem.Session(clientID)
	if err != nil {
		return nil, err
	}
	return &processSession{s, p}, nil
}

type processSession struct {
	store.Session
	p *process
}

// Load and Read give out values that are gone after the visit, as those of a file may be.
func (s *processSession) Load(visit func(store.Entry) error) error {
	return s.Session.Load(func(e store.Entry) error {
		e.Value = slices.Clone(e.Value)
		defer clear(e.Value)
		return visit(e)
	})
}

func (s *processSession) Read(keys []store.Key, visit func(int, []byte) error) error {
	return s.Session.Read(keys, func(i int, value []byte) error {
		value = slices.Clone(value)
		defer clear(value)
		return visit(i, value)
	})
}

func (s *processSession) Commit(ops []store.Op) error {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if gate := p.gate; gate != nil {
		p.mu.Unlock()
		<-gate
		p.mu.Lock()
	}
	if p.rng != nil {
		d := time.Duration(p.rng.IntN(20)) * time.Millisecond
		p.mu.Unlock()
		time.Sleep(d)
		p.mu.Lock()
	}
	if p.commits > 0 {
		p.commits--
	}
	if p.commits == 0 && !p.after {
		p.die()
	}
	if p.dead {
		return errDead
	}
	if p.fail != nil {
		if err := p.fail(ops); err != nil {
			return err
		}
	}
	if p.seen != nil {
		p.seen(ops)
	}
	if err := s.Session.Commit(ops); err != nil {
		return err
	}
	if p.commits == 0 {
		p.die()
	}
	return nil
}
