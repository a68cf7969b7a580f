package mqtt

import "time"

// pulse decides when to ping and when a link is dead. It is pure: it is given
// what happened and what time it is.
//
// A ping is due when for a keep alive nothing was sent [MQTT-3.1.2-20], and when
// for a keep alive nothing was received: a peer that takes our bytes and sends
// none is found no later than one that is idle. The link is dead when a ping
// timeout after the PINGREQ left nothing has come, of whatever kind.
type pulse struct {
	keepAlive time.Duration // 0: no pings
	timeout   time.Duration

	asked   time.Time // when the ping was handed to the writer; zero: none under way
	doubted bool      // the deadline passed once; the next look decides
	wall    time.Time // wall clock of the last look
	mono    time.Time // monotonic clock of the last look
}

// pulseFacts are what pulse is given.
type pulseFacts struct {
	now      time.Time // monotonic
	wall     time.Time // wall clock only
	received time.Time // the last byte
	sent     time.Time // the last time a write went through
	pingSent time.Time // when the last PINGREQ was written; zero for never
	paused   bool      // our reader waits for a consumer
}

// pulseAction is what pulse decides.
type pulseAction uint8

const (
	pulseWait pulseAction = iota // look again after the delay
	pulsePing                    // send PINGREQ, then look again
	pulseDead                    // end the link
)

// doubtDelay is how long a link is given after its deadline: an answer may lie
// unread in a process that is short of time.
const doubtDelay = 100 * time.Millisecond

// look decides. The delay says when to look again at the latest.
func (p *pulse) look(f pulseFacts) (pulseAction, time.Duration) {
	jumped := p.jumped(f)
	if p.keepAlive <= 0 {
		return pulseWait, time.Hour
	}
	if !p.asked.IsZero() {
		return p.waitForAnswer(f)
	}
	quiet := max(f.now.Sub(f.received), f.now.Sub(f.sent))
	if quiet >= p.keepAlive || jumped {
		p.asked, p.doubted = f.now, false
		return pulsePing, p.timeout
	}
	return pulseWait, p.keepAlive - quiet
}

// waitForAnswer is look while a ping is under way.
func (p *pulse) waitForAnswer(f pulseFacts) (pulseAction, time.Duration) {
	if f.received.After(p.asked) {
		p.asked = time.Time{}
		quiet := max(f.now.Sub(f.received), f.now.Sub(f.sent))
		return pulseWait, max(p.keepAlive-quiet, time.Millisecond)
	}
	if f.paused {
		// We do not read, so silence says nothing; begin again when we do. The
		// server goes by what it hears [MQTT-3.1.2-20].
		p.asked, p.doubted = f.now, false
		if quiet := f.now.Sub(f.sent); quiet < p.keepAlive {
			return pulseWait, min(p.timeout, p.keepAlive-quiet)
		}
		return pulsePing, p.timeout
	}
	// The deadline starts when the PINGREQ left. While it is behind other bytes,
	// progress of the writer is life.
	start := p.asked
	if f.pingSent.After(start) {
		start = f.pingSent
	} else if f.sent.After(start) {
		start = f.sent
	}
	if left := start.Add(p.timeout).Sub(f.now); left > 0 {
		p.doubted = false
		return pulseWait, left
	}
	if !p.doubted {
		p.doubted = true
		return pulseWait, min(doubtDelay, p.timeout/10+time.Millisecond)
	}
	return pulseDead, 0
}

// jumped reports whether the wall clock ran on without the monotonic clock, as
// it does when the machine was suspended.
func (p *pulse) jumped(f pulseFacts) bool {
	last, lastMono := p.wall, p.mono
	p.wall, p.mono = f.wall, f.now
	if last.IsZero() {
		return false
	}
	return f.wall.Sub(last)-f.now.Sub(lastMono) > max(p.keepAlive, 10*time.Second)
}
