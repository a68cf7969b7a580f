package server

import (
	"bytes"
	"time"

	"github.com/millrace/mqtt/codec"
)

// notify wakes those who wait for a change. The caller holds mu.
func (s *Server) notify() {
	s.log.changes++
	s.changed.Broadcast()
}

// note traces a packet from a client.
func (s *Server) note(c *client, f codec.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.stats.Packets[f.Type&15]++
	s.trace(c, Packet{Link: c.number, FromClient: true, Type: f.Type, Flags: f.Flags, Size: f.Size}, f.Body)
}

// noteSent traces an encoded packet to a client. The caller holds mu.
func (s *Server) noteSent(c *client, packet []byte) {
	t, flags, _, header, err := codec.ParseHeader(packet)
	if err != nil || header == 0 {
		return // not a packet that our encoders write
	}
	s.trace(c, Packet{Link: c.number, Type: t, Flags: flags, Size: len(packet)}, packet[header:])
}

func (s *Server) trace(c *client, p Packet, body []byte) {
	p.At = time.Now()
	p.Body = bytes.Clone(body[:min(len(body), traceBody)])
	if s.log.traces == nil {
		s.log.traces = make(map[string][]Packet)
	}
	s.log.traces[c.id] = appendBounded(s.log.traces[c.id], p, s.logEntries())
	s.notify()
}

// logReceived writes down an arrival. The caller holds mu.
func (s *Server) logReceived(r Received) {
	s.log.received = appendBounded(s.log.received, r, s.logEntries())
	s.notify()
}

func (s *Server) logEntries() int { return positiveOr(s.cfg.LogEntries, DefaultLogEntries) }

// appendBounded appends and, once there are twice as many as the limit, keeps the newest.
func appendBounded[T any](list []T, entry T, limit int) []T {
	if len(list) >= 2*limit {
		list = append(make([]T, 0, 2*limit), list[len(list)-limit+1:]...)
	}
	return append(list, entry)
}
