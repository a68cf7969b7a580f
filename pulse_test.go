package mqtt

import (
	"testing"
	"time"
)

// pulseSim drives a pulse as keepalive does, on a clock of its own. The hooks say
// what the peer and the writer do.
type pulseSim struct {
	t     *testing.T
	p     pulse
	f     pulseFacts
	pings []time.Duration // when, since the start
	start time.Time
	wrote bool // writes go through at once
	peer  func(s *pulseSim, ping bool)
}

func newPulseSim(t *testing.T, keepAlive, timeout time.Duration) *pulseSim {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	return &pulseSim{t: t, p: pulse{keepAlive: keepAlive, timeout: timeout}, start: start, wrote: true,
		f:    pulseFacts{now: start, wall: start, received: start, sent: start},
		peer: func(*pulseSim, bool) {}}
}

func (s *pulseSim) at() time.Duration { return s.f.now.Sub(s.start) }

// sleep moves both clocks.
func (s *pulseSim) sleep(d time.Duration) { s.f.now, s.f.wall = s.f.now.Add(d), s.f.wall.Add(d) }

// run looks whenever it is told to, until the link is dead or d has passed. It
// reports whether the link died, and fails when it looks more often than makes sense.
func (s *pulseSim) run(d time.Duration) (dead bool) {
	end := s.f.now.Add(d)
	for looks := 0; s.f.now.Before(end); looks++ {
		if looks > 10_000 {
			s.t.Fatal("a busy loop")
		}
		action, delay := s.p.look(s.f)
		if delay <= 0 && action != pulseDead {
			s.t.Fatalf("at %v: action %v again after %v", s.at(), action, delay)
		}
		if action == pulseDead {
			return true
		}
		if action == pulsePing {
			s.pings = append(s.pings, s.at())
			if s.wrote {
				s.f.pingSent, s.f.sent = s.f.now, s.f.now
			}
		}
		s.peer(s, action == pulsePing)
		s.sleep(min(delay, end.Sub(s.f.now)))
	}
	return false
}

// life is a byte from the peer, now.
func (s *pulseSim) life() { s.f.received = s.f.now }

// B34: an idle link with a live peer pings once a keep alive, and lives.
func TestB34_IdleLink(t *testing.T) {
	s := newPulseSim(t, time.Minute, 10*time.Second)
	s.peer = func(s *pulseSim, ping bool) {
		if ping {
			s.life() // at the very instant, as on a network without delay
		}
	}
	if s.run(time.Hour) {
		t.Fatalf("dead at %v", s.at())
	}
	if n := len(s.pings); n < 59 || n > 60 {
		t.Fatalf("%d pings in an hour, want one a minute: %v", n, s.pings)
	}
}

// B12, B34: a peer that takes everything and sends nothing is dead a keep alive
// and a ping timeout after its last byte, whatever is written meanwhile.
func TestB34_SilentPeer(t *testing.T) {
	s := newPulseSim(t, time.Minute, 10*time.Second)
	s.peer = func(s *pulseSim, _ bool) { s.f.sent = s.f.now }
	if !s.run(time.Hour) {
		t.Fatal("not found dead")
	}
	if at := s.at(); at < 69*time.Second || at > 70*time.Second {
		t.Fatalf("dead after %v, want within 70 s", at)
	}
	if len(s.pings) != 1 {
		t.Fatalf("pings at %v", s.pings)
	}
}

// B34: the answer is there 1 ms before the deadline, but the process is busy: the
// look comes late or at the deadline, and the reader after it.
func TestB34_AnswerJustBeforeTheDeadline(t *testing.T) {
	for _, late := range []time.Duration{0, 500 * time.Millisecond} {
		s := newPulseSim(t, time.Minute, 10*time.Second)
		s.run(60 * time.Second)
		deadline := s.start.Add(s.pings[0] + 10*time.Second)
		s.sleep(deadline.Add(late).Sub(s.f.now))
		action, delay := s.p.look(s.f)
		if action != pulseWait {
			t.Fatalf("the look %v after the deadline says %v", late, action)
		}
		s.f.received = deadline.Add(-time.Millisecond) // now the reader has run
		s.sleep(delay)
		if s.run(time.Minute) && s.at() < 2*time.Minute {
			t.Fatalf("dead at %v", s.at())
		}
	}
}

// B34: any byte is life: a large PUBLISH on a slow line delays the PINGRESP.
func TestB34_AnyByteIsLife(t *testing.T) {
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

// B34: the deadline starts when the PINGREQ was written; before that, progress of
// the writer is life.
func TestB34_PingBehindASlowWrite(t *testing.T) {
	s := newPulseSim(t, time.Minute, 10*time.Second)
	s.wrote = false
	s.peer = func(s *pulseSim, _ bool) {
		if s.at() < 5*time.Minute {
			s.f.sent = s.f.now // a piece went through
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
func TestB34_PeerThatDoesNotRead(t *testing.T) {
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

// B1, "decided" 10: while our reader waits for a consumer the peer's silence says
// nothing, and pings still leave.
func TestB34_PausedReader(t *testing.T) {
	s := newPulseSim(t, 10*time.Second, 5*time.Second)
	s.f.paused = true
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
	s.f.paused = false
	s.life()
	begin := s.f.now
	if !s.run(time.Hour) {
		t.Fatal("not found dead")
	}
	if d := s.f.now.Sub(begin); d < 5*time.Second || d > 15*time.Second {
		t.Fatalf("dead %v after the pause", d)
	}
}

// B34: after a suspend, which the wall clock tells, the first look pings, finds a
// dead link within one ping timeout and does not blame a live one.
func TestB34_Suspended(t *testing.T) {
	for _, asked := range []bool{false, true} {
		for _, alive := range []bool{false, true} {
			s := newPulseSim(t, time.Minute, 10*time.Second)
			if asked {
				s.run(65 * time.Second) // a ping is under way
			} else {
				s.run(5 * time.Second)
			}
			s.pings = nil
			s.f.wall = s.f.wall.Add(3 * time.Hour)
			began := s.f.now
			s.peer = func(s *pulseSim, ping bool) {
				if alive && !ping {
					s.life()
				}
			}
			dead := s.run(5 * time.Minute)
			if len(s.pings) == 0 || s.pings[0] != began.Sub(s.start) {
				t.Fatalf("asked %v, alive %v: pings at %v, want one at once", asked, alive, s.pings)
			}
			if !alive && (!dead || s.f.now.Sub(began) > 10*time.Second) {
				t.Fatalf("asked %v: a dead link was found %v after %v", asked, dead, s.f.now.Sub(began))
			}
		}
	}
	s := newPulseSim(t, time.Minute, 10*time.Second)
	s.run(65 * time.Second)
	s.f.wall = s.f.wall.Add(3 * time.Hour)
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

// B35: keep alive 0 means no pings, no deadline and no busy loop.
func TestB35_NoKeepAlive(t *testing.T) {
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
func TestB34_TimeoutAboveKeepAlive(t *testing.T) {
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
