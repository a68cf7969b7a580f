package mqtt

import (
	"sync"
	"time"

	"github.com/millrace/mqtt/codec"
)

// sender is the part of a link that outbound knows: what the link's writer has still
// to write, and what may be written. It knows nothing of the connection.
type sender struct {
	// Immutable.
	no      uint32
	version Version
	agreed  agreed
	kill    func(cause error) // ends the link
	dead    chan struct{}     // closed when the link has ended
	work    chan struct{}     // has a token when the writer has something to do
	mu      *sync.Mutex       // outbound's

	// Guarded by mu.
	sendQueue
	idle       bool         // the writer waits for work
	swaps      uint64       // how often the writer took a buffer, or found none
	inWrite    *sendBuffer  // what the writer is writing
	writing0   uint64       // acceptance number of the first QoS 0 message being written
	closing    bool         // a DISCONNECT is in the buffer: nothing may follow it [MQTT-3.14.4-1]
	closeBy    time.Time    // with closing: when the socket is closed, whatever the server does
	closeTimer *time.Timer  // closes it then
	probe      bool         // one packet at a time, to find the one that kills links
	silent     bool         // no packet yet: would the link die without?
	probeUntil uint64       // acceptance number of the newest publish that may be the one
	window     int          // the limit of the window when the link does not probe
	lastSent   time.Time    // when the last publish was sent; while it probes
	newestCtl  *control     // the newest SUBSCRIBE or UNSUBSCRIBE, until it is answered
	proceed    *time.Timer  // looks after an answer that is late; nil when none was
	unanswered probedPacket // set when the link is down
}

// probedPacket names the packet that alone was unanswered when a link died within probeTime
// of it. The zero value is none.
type probedPacket struct {
	packet codec.Type // PUBLISH, SUBSCRIBE or UNSUBSCRIBE
	seq    uint64     // acceptance number of the PUBLISH
	filter string     // of the SUBSCRIBE or UNSUBSCRIBE
}

// killed reports whether the link has ended.
func (s *sender) killed() bool {
	select {
	case <-s.dead:
		return true
	default:
		return false
	}
}

// wakeIdleLocked wakes the writer when it is idle.
func (s *sender) wakeIdleLocked() {
	if s.idle {
		s.idle = false
		s.wake()
	}
}

func (s *sender) wake() {
	select {
	case s.work <- struct{}{}:
	default:
	}
}

// swapsTo returns how often the writer has swapped buffers, and which of its swaps
// comes when all that is there now is written.
func (s *sender) swapsTo() (now, then uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch n := uint64(len(s.more)); {
	case !s.out.empty():
		return s.swaps, s.swaps + n + 2
	case s.idle:
		return s.swaps, s.swaps
	default:
		return s.swaps, s.swaps + n + 1
	}
}

// takeInWrite takes the buffer that is being written from a writer that will not
// come back with it.
func (s *sender) takeInWrite() *sendBuffer {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.inWrite
	s.inWrite = nil
	return b
}

// appendDisconnect puts a DISCONNECT behind everything in the buffer. The link ends
// when the server has closed the connection behind it, or at the time by; at once when
// the server takes no packet of that size. Of several calls the first sets the
// packet, which is what the result reports, and the earliest the time.
func (s *sender) appendDisconnect(d *codec.Disconnect, by time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.killed() {
		s.endEarlierLocked(by)
		return false
	}
	last := s.last()
	at := len(last.buf)
	fits := func(b []byte, err error) bool { return err == nil && len(b)-at <= s.agreed.maximumPacket }
	b, err := codec.AppendDisconnect(last.buf, s.version, d)
	if !fits(b, err) {
		// The text is left out if it does not fit [MQTT-3.14.2-3].
		b, err = codec.AppendDisconnect(last.buf[:at], s.version, &codec.Disconnect{Code: d.Code})
	}
	if !fits(b, err) {
		s.kill(errLocalClose) // there is no other way [MQTT-3.2.2-15]
		return false
	}
	last.buf, s.closing, s.closeBy = b, true, by
	s.wake()
	s.closeTimer = time.AfterFunc(time.Until(by), func() { s.kill(errLocalClose) })
	return true
}

// endEarlier has the socket of a link whose DISCONNECT is in the buffer closed at
// the time by, if that is earlier.
func (s *sender) endEarlier(by time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endEarlierLocked(by)
}

func (s *sender) endEarlierLocked(by time.Time) {
	if s.closeTimer != nil && by.Before(s.closeBy) {
		s.closeBy = by
		s.closeTimer.Reset(time.Until(by))
	}
}

// disconnecting reports whether the DISCONNECT that ends the link in order is in the
// buffer, or was written.
func (s *sender) disconnecting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// disconnectWritten reports whether the DISCONNECT was written whole: nothing may
// follow it [MQTT-3.14.4-1].
func (s *sender) disconnectWritten() (by time.Time, written bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closeBy, s.closing && s.empty()
}

// claimDisconnect reports whether a DISCONNECT may still be sent, and makes it the
// last packet.
func (s *sender) claimDisconnect() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := s.closing
	s.closing = true
	return !said
}
