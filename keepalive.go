package mqtt

import "time"

// pulse decides when to ping and when a link is dead. It is pure: it is given
// what happened and what time it is.
//
// A ping is due when for a keep alive nothing was sent [MQTT-3.1.2-20], and when
// for a keep alive nothing was received: a peer that takes our bytes and sends
// none is found no later than one that is idle. The link is dead when a ping
// timeout after the peer's TCP took the PINGREQ nothing has come, of whatever
// kind, or when for that long it took neither the PINGREQ nor anything before it.
// What is written behind the PINGREQ says nothing.
//
// Pings leave early, by the lead: proxies cut links that are idle for as long as
// the keep alive, and the doubt about a link whose deadline passed must not make
// the verdict later than keep alive and ping timeout.
type pulse struct {
	keepAlive time.Duration // 0: no pings
	timeout   time.Duration

	asked   time.Time     // since when an answer is awaited; zero: none is
	left    time.Time     // when the first ping since then was taken; zero while none was
	before  time.Time     // pingTaken when asked was set: of a ping before that
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

	// pingTaken is when the peer's TCP was seen to have taken the last PINGREQ, zero
	// for never, and taken when it last took anything up to it. Where the system does not
	// say, they are pingSent and sent.
	pingTaken time.Time
	taken     time.Time

	paused bool // our reader waits for a consumer
}

// pulseAction is what pulse decides.
type pulseAction uint8

const (
	pulseWait pulseAction = iota // look again after the delay
	pulsePing                    // send PINGREQ, then look again
	pulseDead                    // end the link
)

const (
	// maxLead is how much earlier than the keep alive a ping is due, at most.
	maxLead = 5 * time.Second
	// doubtDelay is how long a link is given after its deadline, at most: an answer
	// may lie unread in a process that is short of time.
	doubtDelay = 100 * time.Millisecond
	// pollDelay is how often it is looked, at least, whether a PINGREQ was taken.
	pollDelay = 250 * time.Millisecond
)

// lead is how much earlier than the keep alive a ping is due. It is as much as
// doubt and poll together, or more.
func (p *pulse) lead() time.Duration { return min(maxLead, p.keepAlive/10) }

// doubt is doubtDelay, or less when the times of the link are short.
func (p *pulse) doubt() time.Duration { return min(doubtDelay, p.timeout/20, p.keepAlive/20) }

// poll is pollDelay, or less when the times of the link are short.
func (p *pulse) poll() time.Duration {
	return max(min(pollDelay, p.timeout/20, p.keepAlive/20), time.Millisecond)
}

// interval is the silence after which a ping is due.
func (p *pulse) interval() time.Duration { return p.keepAlive - p.lead() }

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
		p.asked, p.left, p.before, p.doubted, p.answer = f.now, time.Time{}, f.pingTaken, false, p.timeout
		if jumped {
			p.answer -= p.doubt() // this ping could not leave early
		}
	}
	action, delay := pulseWait, p.quiet(f)
	if !p.asked.IsZero() {
		action, delay = p.waitForAnswer(f)
	}
	if action == pulseWait && (begin || unsent || jumped) && !p.waiting(f.pingTaken) {
		action, p.handed = pulsePing, f.now
	}
	return action, delay
}

// waiting reports whether a PINGREQ stands somewhere before the peer, taken being
// when it took the last: then another would say no more.
func (p *pulse) waiting(taken time.Time) bool { return taken.Before(p.handed) }

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

// waitForAnswer is look while a ping is in flight.
func (p *pulse) waitForAnswer(f pulseFacts) (pulseAction, time.Duration) {
	if p.left.IsZero() && !f.pingTaken.Equal(p.before) {
		p.left = f.pingTaken
	}
	start, again := p.left, p.interval()
	if start.IsZero() {
		start, again = p.lastProgress(f), min(again, p.poll())
	}
	if left := start.Add(p.answer).Sub(f.now); left > 0 {
		p.doubted = false
		return pulseWait, min(left, again)
	}
	if !p.doubted {
		p.doubted = true
		return pulseWait, max(p.doubt(), time.Millisecond)
	}
	return pulseDead, 0
}

// lastProgress is when there was life while the PINGREQ is behind other bytes: a
// write that went through, up to its own, and bytes that the peer's TCP took.
func (p *pulse) lastProgress(f pulseFacts) time.Time {
	wrote := f.pingSent
	if wrote.Before(p.handed) {
		wrote = f.sent
	}
	last := p.asked
	for _, t := range [...]time.Time{wrote, f.taken} {
		if t.After(last) {
			last = t
		}
	}
	return last
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
