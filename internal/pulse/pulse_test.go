package pulse

import (
	"testing"
	"time"
)

// pulseSim drives a Pulse as the keepalive goroutine of a link does, on a clock of its
// own. The hooks say what the peer and the writer do.
type pulseSim struct {
	t     *testing.T
	p     Pulse
	f     Facts
	pings []time.Duration // when, since the start
	start time.Time
	wrote bool // writes go through at once
	seen  bool // the test says what the peer's TCP has taken; else it is not known
	peer  func(s *pulseSim, ping bool)
}

func newPulseSim(t *testing.T, keepAlive, timeout time.Duration) *pulseSim {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	return &pulseSim{t: t, p: Pulse{keepAlive: keepAlive, timeout: timeout}, start: start, wrote: true,
		f:    Facts{Now: start, Wall: start, Received: start, Sent: start},
		peer: func(*pulseSim, bool) {}}
}

func (s *pulseSim) at() time.Duration { return s.f.Now.Sub(s.start) }

// sleep moves both clocks.
func (s *pulseSim) sleep(d time.Duration) { s.f.Now, s.f.Wall = s.f.Now.Add(d), s.f.Wall.Add(d) }

// run looks whenever it is told to, until the link is dead or d has passed. It
// reports whether the link died, and fails when it looks more often than makes sense.
func (s *pulseSim) run(d time.Duration) (dead bool) {
	end := s.f.Now.Add(d)
	for looks := 0; s.f.Now.Before(end); looks++ {
		if looks > 20_000 { // four a second for an hour, and some
			s.t.Fatal("a busy loop")
		}
		if !s.seen {
			s.f.Taken, s.f.PingTaken = s.f.Sent, s.f.PingSent
		}
		action, delay := s.p.Look(s.f)
		if delay <= 0 && action != Dead {
			s.t.Fatalf("at %v: action %v again after %v", s.at(), action, delay)
		}
		if action == Dead {
			return true
		}
		if action == Ping {
			s.pings = append(s.pings, s.at())
			if s.wrote {
				s.f.PingSent, s.f.Sent = s.f.Now, s.f.Now
			}
		}
		s.peer(s, action == Ping)
		s.sleep(min(delay, end.Sub(s.f.Now)))
	}
	return false
}

// life is a byte from the peer, now.
func (s *pulseSim) life() { s.f.Received = s.f.Now }

// An idle link with a live peer pings once a keep alive, and lives.
func TestIdleLinkPingsOnceAKeepAlive(t *testing.T) {
	s := newPulseSim(t, time.Minute, 10*time.Second)
	s.peer = func(s *pulseSim, ping bool) {
		if ping {
			s.life() // at the very instant, as on a network without delay
		}
	}
	if s.run(time.Hour) {
		t.Fatalf("dead at %v", s.at())
	}
	if n := len(s.pings); n < 64 || n > 66 {
		t.Fatalf("%d pings in an hour, want one every 55 s: %v", n, s.pings)
	}
}

// A peer that takes everything and sends nothing is dead a keep alive
// and a ping timeout after its last byte, whatever is written meanwhile.
func TestSilentPeerIsDeadAfterThePingTimeout(t *testing.T) {
	s := newPulseSim(t, time.Minute, 10*time.Second)
	s.peer = func(s *pulseSim, _ bool) { s.f.Sent = s.f.Now }
	if !s.run(time.Hour) {
		t.Fatal("not found dead")
	}
	if at := s.at(); at < 65*time.Second || at > 70*time.Second {
		t.Fatalf("dead after %v, want a ping timeout after the ping, which leaves early, and within 70 s", at)
	}
	if len(s.pings) != 1 {
		t.Fatalf("pings at %v", s.pings)
	}
}

// The answer is there 1 ms before the deadline, but the process is busy: the
// look comes late or at the deadline, and the reader after it.
func TestAnswerJustBeforeTheDeadline(t *testing.T) {
	for _, late := range []time.Duration{0, 500 * time.Millisecond} {
		s := newPulseSim(t, time.Minute, 10*time.Second)
		s.run(60 * time.Second)
		deadline := s.start.Add(s.pings[0] + 10*time.Second)
		s.sleep(deadline.Add(late).Sub(s.f.Now))
		action, delay := s.p.Look(s.f)
		if action != Wait {
			t.Fatalf("the look %v after the deadline says %v", late, action)
		}
		s.f.Received = deadline.Add(-time.Millisecond) // now the reader has run
		s.sleep(delay)
		if s.run(time.Minute) && s.at() < 2*time.Minute {
			t.Fatalf("dead at %v", s.at())
		}
	}
}

// Any byte is life: a large PUBLISH on a slow line delays the PINGRESP.
func TestAnyByteCountsAsLife(t *testing.T) {
	s := newPulseSim(t, 10*time.Second, 5*time.Second)
	s.peer = func(s *pulseSim, _ bool) { s.life() }
	if s.run(10 * time.Minute) {
		t.Fatalf("dead at %v", s.at())
	}
	for i, at := range s.pings {
		if i > 0 && at-s.pings[i-1] > 15*time.Second {
			t.Fatalf("inbound bytes kept the pings back [MQTT-3.1.2-20]: %v", s.pings)
		}
	}
	if len(s.pings) < 40 {
		t.Fatalf("%d pings in 10 minutes", len(s.pings))
	}
}

// The deadline starts when the PINGREQ was written; before that, progress of
// the writer is life.
func TestPingBehindASlowWrite(t *testing.T) {
	s := newPulseSim(t, time.Minute, 10*time.Second)
	s.wrote = false
	s.peer = func(s *pulseSim, _ bool) {
		if s.at() < 5*time.Minute {
			s.f.Sent = s.f.Now // a piece went through
		}
	}
	if !s.run(time.Hour) {
		t.Fatal("not found dead")
	}
	if at := s.at(); at < 5*time.Minute || at > 5*time.Minute+10*time.Second+doubtDelay {
		t.Fatalf("dead after %v, the writer stood still after 5 m", at)
	}
	if len(s.pings) != 1 {
		t.Fatalf("%d pings stand in the writer's buffer", len(s.pings))
	}
}

// A peer that sends but does not read must not make PINGREQs pile up.
func TestPeerThatDoesNotReadPilesUpNoPings(t *testing.T) {
	s := newPulseSim(t, 10*time.Second, 5*time.Second)
	s.wrote = false
	s.peer = func(s *pulseSim, _ bool) { s.life() }
	s.run(time.Hour)
	if len(s.pings) != 1 {
		t.Fatalf("%d PINGREQs wait in the buffer", len(s.pings))
	}
	s.peer = func(*pulseSim, bool) {}
	if !s.run(time.Minute) {
		t.Fatal("neither bytes nor progress, and not dead")
	}
}

// While our reader waits for a consumer the peer's silence says nothing, and pings
// still leave.
func TestPausedReaderStillPings(t *testing.T) {
	s := newPulseSim(t, 10*time.Second, 5*time.Second)
	s.f.Paused = true
	if s.run(10 * time.Minute) {
		t.Fatalf("our own pause was blamed on the server at %v", s.at())
	}
	for i, at := range s.pings {
		if i > 0 && at-s.pings[i-1] > 11*time.Second {
			t.Fatalf("pings at %v", s.pings)
		}
	}
	if len(s.pings) < 55 {
		t.Fatalf("%d pings in 10 minutes", len(s.pings))
	}
	// It begins again when the reader goes on.
	s.f.Paused = false
	s.life()
	begin := s.f.Now
	if !s.run(time.Hour) {
		t.Fatal("not found dead")
	}
	if d := s.f.Now.Sub(begin); d < 5*time.Second || d > 15*time.Second {
		t.Fatalf("dead %v after the pause", d)
	}
}

// After a suspend, which the wall clock tells, the first look pings, finds a
// dead link within one ping timeout and does not blame a live one.
func TestSuspendDoesNotBlameALiveLink(t *testing.T) {
	for _, asked := range []bool{false, true} {
		for _, alive := range []bool{false, true} {
			s := newPulseSim(t, time.Minute, 10*time.Second)
			if asked {
				s.run(65 * time.Second) // a PINGREQ is in flight
			} else {
				s.run(5 * time.Second)
			}
			s.pings = nil
			s.f.Wall = s.f.Wall.Add(3 * time.Hour)
			began := s.f.Now
			s.peer = func(s *pulseSim, ping bool) {
				if alive && !ping {
					s.life()
				}
			}
			dead := s.run(5 * time.Minute)
			if len(s.pings) == 0 || s.pings[0] != began.Sub(s.start) {
				t.Fatalf("asked %v, alive %v: pings at %v, want one at once", asked, alive, s.pings)
			}
			if !alive && (!dead || s.f.Now.Sub(began) > 10*time.Second) {
				t.Fatalf("asked %v: a dead link was found %v after %v", asked, dead, s.f.Now.Sub(began))
			}
		}
	}
	s := newPulseSim(t, time.Minute, 10*time.Second)
	s.run(65 * time.Second)
	s.f.Wall = s.f.Wall.Add(3 * time.Hour)
	s.peer = func(s *pulseSim, ping bool) {
		if ping {
			s.sleep(9900 * time.Millisecond)
			s.life()
		}
	}
	if s.run(10 * time.Minute) {
		t.Fatalf("a live link was blamed at %v", s.at())
	}
}

// Keep alive 0 means no pings, no deadline and no busy loop.
func TestNoKeepAliveMeansNoPings(t *testing.T) {
	s := newPulseSim(t, 0, 10*time.Second)
	if s.run(240 * time.Hour) {
		t.Fatal("dead without a keep alive")
	}
	if len(s.pings) > 0 {
		t.Fatalf("pings at %v", s.pings)
	}
}

// A ping timeout above the keep alive must not keep pings back [MQTT-3.1.2-20],
// nor pings the deadline.
func TestPingTimeoutAboveKeepAlive(t *testing.T) {
	s := newPulseSim(t, 2*time.Second, 11*time.Second)
	if !s.run(time.Minute) {
		t.Fatal("not found dead")
	}
	if at := s.at(); at < 12*time.Second || at > 13*time.Second {
		t.Fatalf("dead after %v, want within 13 s", at)
	}
	if len(s.pings) < 5 {
		t.Fatalf("pings at %v, want one every 2 s", s.pings)
	}
}

// A PINGREQ that was written stands behind megabytes in the kernel: as long as the
// peer's TCP takes some of them the line is slow, not dead. The timeout starts when
// it has taken the PINGREQ.
func TestSlowLineIsNotDead(t *testing.T) {
	s := newPulseSim(t, 2*time.Second, time.Second)
	s.seen = true
	takenAt := 30 * time.Second
	s.peer = func(s *pulseSim, _ bool) {
		s.f.Sent = s.f.Now // the kernel takes what it is given
		switch {
		case s.at() < takenAt:
			s.f.Taken = s.f.Now.Add(-900 * time.Millisecond)
		case s.f.PingTaken.IsZero():
			s.f.Taken, s.f.PingTaken = s.f.Now, s.f.Now
		default:
			s.f.Taken = s.f.Now // what stands behind the PINGREQ
		}
	}
	if !s.run(time.Hour) {
		t.Fatal("what is taken behind the PINGREQ passed for life")
	}
	if at := s.at(); at < takenAt+time.Second || at > takenAt+1200*time.Millisecond {
		t.Fatalf("dead after %v, want a ping timeout after %v", at, takenAt)
	}
	if len(s.pings) != 1 {
		t.Fatalf("pings at %v, and the first was behind megabytes", s.pings)
	}
}

// A line that stands still for a ping timeout is dead, though the PINGREQ was
// written into the kernel.
func TestLineThatStandsStillIsDead(t *testing.T) {
	s := newPulseSim(t, 20*time.Second, 5*time.Second)
	s.seen = true
	s.peer = func(s *pulseSim, _ bool) {
		s.f.Sent = s.f.Now
		if s.at() < 3*time.Second {
			s.f.Taken = s.f.Now
		}
	}
	if !s.run(time.Hour) {
		t.Fatal("not found dead")
	}
	if at := s.at(); at < 23*time.Second || at > 25*time.Second {
		t.Fatalf("dead after %v, want within 25 s", at)
	}
}

// That the last PINGREQ was taken may be seen late, when the next answer is awaited
// already: the timeout of that one starts when it was taken itself.
func TestPingTakenLateDoesNotCountForTheNext(t *testing.T) {
	s := newPulseSim(t, 10*time.Second, time.Second)
	s.seen = true
	s.run(9 * time.Second) // a ping leaves
	s.life()               // and is answered, as far as one can see
	s.peer = func(s *pulseSim, ping bool) {
		if len(s.pings) == 2 && s.at() < 25*time.Second {
			s.f.Taken = s.f.Now // of what stands before the second
		}
	}
	s.run(8 * time.Second)
	s.f.Taken, s.f.PingTaken = s.f.Now, s.f.Now
	if !s.run(time.Hour) {
		t.Fatal("not found dead")
	}
	if at := s.at(); len(s.pings) < 2 || at < 26*time.Second || at > 26200*time.Millisecond {
		t.Fatalf("dead after %v, pings at %v; want 1 s after 25 s", at, s.pings)
	}
}

// Proxies cut what is idle for 60 s, in either direction: with that keep alive a
// ping leaves in good time, and so it does with each other one.
func TestPingsLeaveBeforeTheKeepAliveIsOver(t *testing.T) {
	for keepAlive, want := range map[time.Duration]time.Duration{
		time.Second: 900 * time.Millisecond, 10 * time.Second: 9 * time.Second, 45 * time.Second: 40500 * time.Millisecond,
		60 * time.Second: 55 * time.Second, 300 * time.Second: 295 * time.Second, 65535 * time.Second: 65530 * time.Second,
	} {
		for _, timeout := range []time.Duration{keepAlive / 4, keepAlive, 3 * keepAlive} {
			s := newPulseSim(t, keepAlive, timeout)
			s.seen = true
			s.peer = func(s *pulseSim, _ bool) {
				if s.f.PingTaken.Before(s.f.PingSent) && s.f.Now.After(s.f.PingSent) {
					s.f.PingTaken = s.f.Now // it is seen at the next look
				}
			}
			if !s.run(10 * keepAlive) {
				t.Fatalf("keep alive %v, timeout %v: not found dead", keepAlive, timeout)
			}
			if s.pings[0] != want {
				t.Errorf("keep alive %v: the ping left after %v, want %v", keepAlive, s.pings[0], want)
			}
			if at := s.at(); at < want+timeout || at > keepAlive+timeout {
				t.Errorf("keep alive %v, timeout %v: dead after %v", keepAlive, timeout, at)
			}
		}
	}
}
