package server

import (
	"bytes"
	"time"

	"github.com/millrace/mqtt/codec"
)

// notify wakes the goroutines that wait for a change. The caller holds mu.
func (s *Server) notify() {
	s.log.changes++
	s.changed.Broadcast()
}

// note traces a packet from a client and returns the entry, and the hook that is to see it.
func (s *Server) note(c *client, f codec.Frame) (Packet, func(string, Packet) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log.stats.Packets[f.Type&15]++
	p := Packet{Link: c.number, FromClient: true, Type: f.Type, Flags: f.Flags, Size: f.Size}
	return s.trace(c, p, f.Body), s.cfg.OnPacket
}

// noteSent traces an encoded packet to a client. The caller holds mu.
func (s *Server) noteSent(c *client, packet []byte) {
	t, flags, _, header, err := codec.ParseHeader(packet)
	if err != nil || header == 0 {
		return // not a packet that our encoders write
	}
	s.trace(c, Packet{Link: c.number, Type: t, Flags: flags, Size: len(packet)}, packet[header:])
}

func (s *Server) trace(c *client, p Packet, body []byte) Packet {
	p.At = time.Now()
	p.Body = bytes.Clone(body[:min(len(body), traceBody)])
	if s.log.traces == nil {
		s.log.traces = make(map[string][]Packet)
	}
	s.log.traces[c.id] = appendBounded(s.log.traces[c.id], p, s.logEntries())
	s.notify()
	return p
}

// logReceived writes down an arrival. The caller holds mu.
func (s *Server) logReceived(r Received) {
	l := &s.log
	l.received = append(l.received, r)
	l.payloads += len(r.Payload)
	for len(l.received) > s.logEntries() || (len(l.received) > 1 && l.payloads > positiveOr(s.cfg.LogBytes, DefaultLogBytes)) {
		l.payloads -= len(l.received[0].Payload)
		l.received = dropFirst(l.received)
	}
	s.notify()
}

func (s *Server) logEntries() int { return positiveOr(s.cfg.LogEntries, DefaultLogEntries) }

// appendBounded appends and drops the oldest beyond the limit. Growing moves what is kept to a new
// array, so that what was dropped takes no memory for long.
func appendBounded[T any](list []T, entry T, limit int) []T {
	list = append(list, entry)
	for len(list) > limit {
		list = dropFirst(list)
	}
	return list
}

func dropFirst[T any](list []T) []T {
	clear(list[:1])
	return list[1:]
}
