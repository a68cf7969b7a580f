// Package pulse decides when a link pings and when it is dead. It asks no clock: it is
// given what happened and what time it is.
package pulse

import "time"

// Pulse decides when to ping and when a link is dead.
//
// A ping is due when for a keep alive nothing was sent [MQTT-3.1.2-20], and when
// for a keep alive nothing was received: a peer that takes our bytes and sends
// none is found no later than one that is idle. The link is dead when a ping
// timeout after the peer's TCP took the PINGREQ nothing has come, of whatever
// kind, or when for that long it took neither the PINGREQ nor anything before it.
// Bytes written behind the PINGREQ say nothing.
//
// Pings leave early, by the lead: proxies cut links that are idle for as long as
// the keep alive, and the doubt about a link whose deadline passed must not make
// the verdict later than keep alive and ping timeout.
type Pulse struct {
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

// Facts are what a Pulse is given.
type Facts struct {
	Now      time.Time // monotonic
	Wall     time.Time // a clock that runs on while the machine sleeps
	Received time.Time // the last byte
	Sent     time.Time // the last time a write went through
	PingSent time.Time // when the last PINGREQ was written; zero for never

	// PingTaken is when the peer's TCP was seen to have taken the last PINGREQ, zero
	// for never, and Taken when it last took anything up to it. Where the system does not
	// say, they are PingSent and Sent.
	PingTaken time.Time
	Taken     time.Time

	Paused bool // our reader waits for a consumer
}

// Action is what a Pulse decides.
type Action uint8

const (
	Wait Action = iota // look again after the delay
	Ping               // send PINGREQ, then look again
	Dead               // end the link
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

// New returns the Pulse of a link. A keepAlive of 0 means no pings.
func New(keepAlive, timeout time.Duration) Pulse {
	return Pulse{keepAlive: keepAlive, timeout: timeout}
}

// Handed is when the newest ping was handed to the writer; zero for never.
func (p *Pulse) Handed() time.Time { return p.handed }

// lead is how much earlier than the keep alive a ping is due. It is as much as
// doubt and poll together, or more.
func (p *Pulse) lead() time.Duration { return min(maxLead, p.keepAlive/10) }

// doubt is doubtDelay, or less when the times of the link are short.
func (p *Pulse) doubt() time.Duration { return min(doubtDelay, p.timeout/20, p.keepAlive/20) }

// poll is pollDelay, or less when the times of the link are short.
func (p *Pulse) poll() time.Duration {
	return max(min(pollDelay, p.timeout/20, p.keepAlive/20), time.Millisecond)
}

// interval is the silence after which a ping is due.
func (p *Pulse) interval() time.Duration { return p.keepAlive - p.lead() }

// Look decides. The delay says when to look again, at the latest.
func (p *Pulse) Look(f Facts) (Action, time.Duration) {
	jumped := p.jumped(f)
	if p.keepAlive <= 0 {
		return Wait, time.Hour
	}
	// Any byte is life, one of the same instant too. After a jump, and while we
	// do not read, the silence before says nothing.
	if jumped || f.Paused || !f.Received.Before(p.asked) {
		p.asked = time.Time{}
	}
	unsent := f.Now.Sub(f.Sent) >= p.interval()
	unheard := f.Now.Sub(f.Received) >= p.interval()
	begin := p.asked.IsZero() && !f.Paused && (unsent || unheard || jumped)
	if begin {
		p.asked, p.left, p.before, p.doubted, p.answer = f.Now, time.Time{}, f.PingTaken, false, p.timeout
		if jumped {
			p.answer -= p.doubt() // this ping could not leave early
		}
	}
	action, delay := Wait, p.quiet(f)
	if !p.asked.IsZero() {
		action, delay = p.waitForAnswer(f)
	}
	if action == Wait && (begin || unsent || jumped) && !p.waiting(f.PingTaken) {
		action, p.handed = Ping, f.Now
	}
	return action, delay
}

// waiting reports whether a PINGREQ stands somewhere before the peer, taken being
// when it took the last: then another would say no more.
func (p *Pulse) waiting(taken time.Time) bool { return taken.Before(p.handed) }

// quiet is how long it is until a ping may be due.
func (p *Pulse) quiet(f Facts) time.Duration {
	last := f.Sent
	if !f.Paused && f.Received.Before(last) {
		last = f.Received
	}
	if left := last.Add(p.interval()).Sub(f.Now); left > 0 {
		return left
	}
	return min(p.timeout, p.interval())
}

// waitForAnswer is Look while a ping is in flight.
func (p *Pulse) waitForAnswer(f Facts) (Action, time.Duration) {
	if p.left.IsZero() && !f.PingTaken.Equal(p.before) {
		p.left = f.PingTaken
	}
	start, again := p.left, p.interval()
	if start.IsZero() {
		start, again = p.lastProgress(f), min(again, p.poll())
	}
	if left := start.Add(p.answer).Sub(f.Now); left > 0 {
		p.doubted = false
		return Wait, min(left, again)
	}
	if !p.doubted {
		p.doubted = true
		return Wait, max(p.doubt(), time.Millisecond)
	}
	return Dead, 0
}

// lastProgress is when there was life while the PINGREQ is behind other bytes: a
// write that went through, up to its own, and bytes that the peer's TCP took.
func (p *Pulse) lastProgress(f Facts) time.Time {
	wrote := f.PingSent
	if wrote.Before(p.handed) {
		wrote = f.Sent
	}
	last := p.asked
	for _, t := range [...]time.Time{wrote, f.Taken} {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// jumped reports whether the clock that counts sleep ran on without the monotonic
// clock: the machine was suspended.
func (p *Pulse) jumped(f Facts) bool {
	last, lastMono := p.wall, p.mono
	p.wall, p.mono = f.Wall, f.Now
	if last.IsZero() {
		return false
	}
	return f.Wall.Sub(last)-f.Now.Sub(lastMono) > max(p.keepAlive, 10*time.Second)
}
