package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/millrace/mqtt/codec"
)

// Received is a PUBLISH of a client as the server took it.
type Received struct {
	ClientID string // of the client that sent it
	Link     int    // the session's connection it came on, from 1
	At       time.Time
	PacketID uint16 // 0 with QoS 0
	Dup      bool
	QoS      byte
	Retain   bool
	Resend   bool   // the session knows it from before, by identifier, QoS, topic and payload
	Alias    uint16 // as on the wire, 0 = none
	Topic    string // with the alias resolved
	Payload  []byte
	Props    *codec.Properties // nil when there are none
}

// Packet is one packet of a trace.
type Packet struct {
	At         time.Time // when it was read or written
	Link       int       // the session's connection, from 1; 0 for a CONNECT
	FromClient bool      // else from the server
	Type       codec.Type
	Flags      byte   // lower half of the first byte
	Body       []byte // what follows the fixed header, at most its first 256 bytes
	Size       int    // of the whole packet
}

// traceBody is how much of a packet's body a trace keeps, in bytes.
const traceBody = 256

// String says direction, type and the begin of the body: "-> PUBACK 00 07".
func (p Packet) String() string {
	arrow := "<-"
	if p.FromClient {
		arrow = "->"
	}
	return fmt.Sprintf("%s %v % X", arrow, p.Type, p.Body)
}

// Stats counts what happened since the server was made.
type Stats struct {
	Connects          int // accepted
	Refused           int
	KeepAliveTimeouts int
	Resubscribes      int     // subscriptions made again, unchanged, on a later connection
	DroppedQoS0       int     // for a client that did not read
	Expired           int     // messages that were too old to send
	TooLarge          int     // messages above a client's Maximum Packet Size
	Packets           [16]int // from clients, by packet type
}

// observations are the logs. Guarded by Server.mu.
type observations struct {
	received   []Received
	payloads   int // bytes in received
	violations []string
	traces     map[string][]Packet
	stats      Stats
	changes    int // how often notify was called
}

// Received returns the first sight of every PUBLISH, in the order of arrival: a resend that the
// session knows is left out. The server keeps the newest, Config.LogEntries and
// Config.LogBytes of them.
func (s *Server) Received() []Received {
	return slices.DeleteFunc(s.Arrived(), func(r Received) bool { return r.Resend })
}

// Arrived returns every PUBLISH, resends included, in the order of arrival.
func (s *Server) Arrived() []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log.received)
}

// Packets returns the packets of a client in both directions, over all its connections. Those of
// the server are noted when they are handed to the connection's writer.
func (s *Server) Packets(clientID string) []Packet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log.traces[clientID])
}

// Violations returns what clients did against the standard, in the order it was noticed, each with
// the client, the connection and the clause. A test of a client wants it empty.
func (s *Server) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log.violations)
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.stats
}

// Connected returns the identifiers of the connected clients, in the order their sessions were made.
func (s *Server) Connected() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, sess := range s.order {
		if sess.client != nil {
			ids = append(ids, sess.id)
		}
	}
	return ids
}

// SessionInfo is what the server holds for a client.
type SessionInfo struct {
	Connected     bool // there is a connection now
	Links         int  // connections so far
	Subscriptions []codec.Subscription
	Open          int // QoS 1 and 2 messages sent and not completed
	Queued        int // QoS 1 and 2 messages not yet sent
}

// Session returns what the server holds for a client; ok is false when there is no session.
func (s *Server) Session(clientID string) (info SessionInfo, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sess := s.sessions[clientID]
	if sess == nil {
		return SessionInfo{}, false
	}
	info = SessionInfo{Connected: sess.client != nil, Links: sess.links, Open: len(sess.open), Queued: len(sess.queued)}
	for _, sub := range sess.subs {
		info.Subscriptions = append(info.Subscriptions, sub.Subscription)
	}
	return info, true
}

// Wait waits until done returns true, looking after every change that the methods above can show.
// It returns the cause of ctx when that ends first. done runs without the server's lock.
func (s *Server) Wait(ctx context.Context, done func() bool) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.notify()
	})
	defer stop()
	for {
		s.mu.Lock()
		before := s.log.changes
		s.mu.Unlock()
		if done() {
			return nil
		}
		s.mu.Lock()
		for s.log.changes == before && ctx.Err() == nil {
			s.changed.Wait()
		}
		s.mu.Unlock()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}
