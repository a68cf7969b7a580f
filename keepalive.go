package mqtt

import "time"

// pulse decides when to ping and when a link is dead. It is pure: it is given
// what happened and what time it is.
//
// A ping is due when for a keep alive nothing was sent [MQTT-3.1.2-20], and when
// for a keep alive nothing was received: a peer that takes our bytes and sends
// none is found no later than one that is idle. The link is dead when a ping
// timeout after the PINGREQ left nothing has come, of whatever kind, or when
// for that long neither the PINGREQ left nor anything before it.
//
// The doubt about a link whose deadline passed is taken from the other end: pings
// leave so much early, and the verdict falls within keep alive and ping timeout.
type pulse struct {
	keepAlive time.Duration // 0: no pings
	timeout   time.Duration

	asked   time.Time     // since when an answer is awaited; zero: none is
	left    time.Time     // when the first ping since then was written; zero while none was
	handed  time.Time     // when the newest ping was handed to the writer
	answer  time.Duration // how long the answer may take
	doubted bool          // the deadline passed once; the next look decides
	wall    time.Time     // the clock that counts sleep, at the last look
	mono    time.Time     // monotonic clock of the last look
}

// pulseFacts are what pulse is given.
type pulseFacts struct {
	now      time.Time // monotonic
	wall     time.Time // a clock that runs on while the machine sleeps
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

// doubt is doubtDelay, or less when the times of the link are short.
func (p *pulse) doubt() time.Duration { return min(doubtDelay, p.timeout/10, p.keepAlive/10) }

// interval is the silence after which a ping is due.
func (p *pulse) interval() time.Duration { return p.keepAlive - p.doubt() }

// look decides. The delay says when to look again at the latest.
func (p *pulse) look(f pulseFacts) (pulseAction, time.Duration) {
	jumped := p.jumped(f)
	if p.keepAlive <= 0 {
		return pulseWait, time.Hour
	}
	// Any byte is life, one of the same instant too. After a jump, and while we
	// do not read, the silence before says nothing.
	if jumped || f.paused || !f.received.Before(p.asked) {
		p.asked = time.Time{}
	}
	unsent := f.now.Sub(f.sent) >= p.interval()
	unheard := f.now.Sub(f.received) >= p.interval()
	begin := p.asked.IsZero() && !f.paused && (unsent || unheard || jumped)
	if begin {
		p.asked, p.left, p.doubted, p.answer = f.now, time.Time{}, false, p.timeout
		if jumped {
			p.answer -= p.doubt() // this ping could not leave early
		}
	}
	action, delay := pulseWait, p.quiet(f)
	if !p.asked.IsZero() {
		action, delay = p.waitForAnswer(f)
	}
	if action == pulseWait && (begin || unsent || jumped) && !p.waiting(f) {
		action, p.handed = pulsePing, f.now
	}
	return action, delay
}

// waiting reports whether the writer still has a PINGREQ before it: then
// another would say no more.
func (p *pulse) waiting(f pulseFacts) bool { return f.pingSent.Before(p.handed) }

// quiet is how long it is until a ping may be due.
func (p *pulse) quiet(f pulseFacts) time.Duration {
	last := f.sent
	if !f.paused && f.received.Before(last) {
		last = f.received
	}
	if left := last.Add(p.interval()).Sub(f.now); left > 0 {
		return left
	}
	return min(p.timeout, p.interval())
}

// waitForAnswer is look while a ping is under way.
func (p *pulse) waitForAnswer(f pulseFacts) (pulseAction, time.Duration) {
	// The deadline starts when the PINGREQ left. While it is behind other bytes,
	// progress of the writer is life.
	start := p.asked
	if p.left.IsZero() && !f.pingSent.Before(p.asked) {
		p.left = f.pingSent
	}
	if !p.left.IsZero() {
		start = p.left
	} else if f.sent.After(start) {
		start = f.sent
	}
	if left := start.Add(p.answer).Sub(f.now); left > 0 {
		p.doubted = false
		return pulseWait, min(left, p.interval())
	}
	if !p.doubted {
		p.doubted = true
		return pulseWait, max(p.doubt(), time.Millisecond)
	}
	return pulseDead, 0
}

// jumped reports whether the clock that counts sleep ran on without the monotonic
// clock: the machine was suspended.
func (p *pulse) jumped(f pulseFacts) bool {
	last, lastMono := p.wall, p.mono
	p.wall, p.mono = f.wall, f.now
	if last.IsZero() {
		return false
	}
	return f.wall.Sub(last)-f.now.Sub(lastMono) > max(p.keepAlive, 10*time.Second)
}
