package server

import (
	"net"
	"sync"
	"time"

	"github.com/millrace/mqtt/codec"
)

// Server is an MQTT server of versions 3.1, 3.1.1 and 5.0 in memory. It serves any net.Listener,
// those of a [Network] inside a testing/synctest bubble too. All methods may be called from any
// goroutine.
//
// One mutex guards all its state and is held for short steps only. Each connection has a reader
// and a writer goroutine, started by Serve, ended by the end of the connection, awaited by Close.
type Server struct {
	running sync.WaitGroup // accept loops, readers, writers, timers

	mu        sync.Mutex // guards everything below, sessions and clients included
	changed   sync.Cond  // something a test may wait for has happened
	cfg       Config
	closed    bool
	listeners map[net.Listener]struct{}
	clients   map[*client]struct{}
	sessions  map[string]*session
	order     []*session // sessions in the order of their making: routing is deterministic
	groups    []*group
	retained  map[string]*message
	timers    map[*timer]struct{}

	sequence int // of first sights, over all clients
	assigned int // client identifiers made here
	refuse   refusals
	hold     map[codec.Type]bool
	held     []Ack
	delayed  []delayedAck // by time
	log      observations
}

// New returns a Server that serves nothing yet. cfg is copied.
func New(cfg Config) *Server {
	s := &Server{
		cfg:       cfg,
		listeners: make(map[net.Listener]struct{}),
		clients:   make(map[*client]struct{}),
		timers:    make(map[*timer]struct{}),
		hold:      make(map[codec.Type]bool),
	}
	s.changed.L = &s.mu
	s.forget()
	return s
}

// Start returns a Server that serves every address of n that no other server serves. It panics when
// something listens there already.
func Start(n *Network, cfg Config) *Server {
	ln, err := n.Listen("")
	if err != nil {
		panic(err)
	}
	s := New(cfg)
	s.running.Go(func() { _ = s.Serve(ln) })
	return s
}

// Change alters the configuration; what it says of connections holds for the next ones. change
// runs under the server's lock and must not call the Server.
func (s *Server) Change(change func(*Config)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.cfg)
}

// Serve accepts clients from ln until Close, or until Accept fails, whose error it returns. It
// returns nil after Close. It closes ln.
func (s *Server) Serve(ln net.Listener) error {
	defer ln.Close()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.listeners[ln] = struct{}{}
	s.mu.Unlock()
	for {
		conn, err := ln.Accept()
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.listeners, ln)
			if s.closed {
				return nil
			}
			return err
		}
		s.accept(conn)
	}
}

// accept starts the two goroutines of a connection. The reader starts the writer, so that the
// WaitGroup is never at zero while one of them is still to come.
func (s *Server) accept(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return
	}
	c := newClient(s, conn)
	s.clients[c] = struct{}{}
	s.running.Go(c.run)
}

// Close ends all connections without a word, stops serving, and waits for the goroutines of the
// server. Logs can be read afterwards. A second Close waits too.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for ln := range s.listeners {
		ln.Close()
	}
	for c := range s.clients {
		c.shut()
		c.end()
	}
	s.stopTimers()
	s.notify()
	s.mu.Unlock()
	s.running.Wait()
	return nil
}

// forget drops all sessions and retained messages. The caller holds mu.
func (s *Server) forget() {
	for _, sess := range s.order {
		sess.stopTimers(s)
	}
	s.sessions = make(map[string]*session)
	s.order = nil
	s.groups = nil
	s.retained = make(map[string]*message)
}

// A timer is a pending step of the server, stopped and awaited by Close.
type timer struct{ t *time.Timer }

// after runs do, under mu, when d has passed; do is dropped at Close. The caller holds mu.
func (s *Server) after(d time.Duration, do func()) *timer {
	if s.closed {
		return nil // connections end behind Close too, and it waits for no expiry
	}
	t := new(timer)
	s.running.Add(1)
	s.timers[t] = struct{}{}
	t.t = time.AfterFunc(d, func() {
		defer s.running.Done()
		s.mu.Lock()
		defer s.mu.Unlock()
		// Whoever took it out of the map has stopped it, too late for the runtime.
		if _, pending := s.timers[t]; pending {
			delete(s.timers, t)
			do()
		}
	})
	return t
}

// stop ends t; nil and passed timers are fine. The caller holds mu.
func (s *Server) stop(t *timer) {
	if t == nil {
		return
	}
	delete(s.timers, t)
	if t.t.Stop() {
		s.running.Done()
	}
}

func (s *Server) stopTimers() {
	for t := range s.timers {
		s.stop(t)
	}
}
