package mqtt

import (
	"encoding/binary"
	"time"
)

// The expiry of stored messages counts on a clock of the session. It begins as the
// wall clock, and goes on by the time that passes: within a process as
// outbound.uptime does, whatever becomes of the wall clock; from one process to the
// next as far as that can be told. It never goes back, so that what is left of an
// expiry never grows. When no stored message expires it begins anew.

// storedClock is a reading of the clocks, in the Meta record. It is as old as the
// newest message that expires.
type storedClock struct {
	session time.Time     // of the session
	wall    time.Time     // of the machine
	uptime  time.Duration // since the boot
	boot    bootID        // which one that was; zero where it is not known
}

// storedClockSize is the size of a storedClock in a Meta record of format metaFormatClock.
const storedClockSize = 8 + 8 + 8 + len(bootID{})

func (s *storedClock) append(dst []byte) []byte {
	for _, n := range []int64{s.session.UnixNano(), s.wall.UnixNano(), int64(s.uptime)} {
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	return append(dst, s.boot[:]...)
}

func (s *storedClock) decode(b []byte) {
	at := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[i:])) }
	s.session, s.wall, s.uptime = time.Unix(0, at(0)), time.Unix(0, at(8)), time.Duration(at(16))
	copy(s.boot[:], b[24:])
}

// passed returns how much time has passed since the reading s, as far as now tells:
// none when the machine has booted since and its wall clock is behind, or was not
// set at one of the two.
func (s *storedClock) passed(now *storedClock) time.Duration {
	if s.boot == now.boot && s.boot != (bootID{}) && now.uptime >= s.uptime {
		return now.uptime - s.uptime
	}
	if s.wall.Before(wallClockSet) {
		return 0
	}
	return max(0, now.wall.Sub(s.wall))
}

// read reads the clocks, but for that of the session.
func (c *clock) read() storedClock {
	return storedClock{uptime: c.uptime(), wall: c.wall().Round(0), boot: c.boot()}
}

// sessionClock is the clock of a session in this process.
type sessionClock struct {
	clock
	now    storedClock   // as it began
	offset time.Duration // between wall clock and uptime, when they were stored last
	stored bool          // they were, by this process
	fixed  bool          // the Meta record is of a later version, and stays as it is
}

// begin sets the clock of the session: it goes on from last, the newest reading of
// earlier processes, nil for none.
func (s *sessionClock) begin(c clock, last *storedClock) {
	s.clock = c
	s.now = c.read()
	s.now.session = s.now.wall
	if last != nil {
		s.now.session = last.session.Add(last.passed(&s.now))
	}
}

// at returns the time on the clock of the session at an uptime.
func (s *sessionClock) at(uptime time.Duration) time.Time {
	return s.now.session.Add(uptime - s.now.uptime)
}

// reading returns what is to be stored of the clocks.
func (s *sessionClock) reading() *storedClock {
	r := storedClock{uptime: s.uptime(), wall: s.wall().Round(0), boot: s.now.boot}
	r.session = s.at(r.uptime)
	s.offset, s.stored = r.wallOffset(), true
	return &r
}

// wallOffset changes when the wall clock is set.
func (s *storedClock) wallOffset() time.Duration {
	return s.wall.Sub(wallClockSet) - s.uptime
}

// wasSet reports whether the wall clock was set since it was stored last.
func (s *sessionClock) wasSet() bool {
	if !s.stored {
		return false
	}
	r := storedClock{uptime: s.uptime(), wall: s.wall().Round(0)}
	return (r.wallOffset() - s.offset).Abs() >= time.Second
}
