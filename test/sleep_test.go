package mqtt_test

import (
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/store"
)

const years = 365 * 24 * time.Hour

// expiryOf returns the Message Expiry Interval of a PUBLISH of QoS 1 on topic t, in seconds.
func expiryOf(t *testing.T, p []byte) time.Duration {
	t.Helper()
	if len(p) < 13 || p[0]&0xF6 != 0x32 || p[7] != 5 || p[8] != 2 {
		t.Fatalf("not a PUBLISH with an expiry alone: % X", p)
	}
	return time.Duration(binary.BigEndian.Uint32(p[9:])) * time.Second
}

// The message of a machine that slept is as old as it is, and what has expired
// meanwhile fails when the machine wakes.
func TestExpiryCountsTheSleepOfTheMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := newTestClock()
		s := script(t, mqtt.V5, clock.option(), mqtt.WithMaxInflight(1))
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		s.ExpectPacket()
		long := s.conn.Publish(t.Context(), of("l", 1, 9*time.Hour))
		short := s.conn.Publish(t.Context(), of("s", 1, time.Hour))
		clock.sleep(8 * time.Hour)
		expiresIn(t, short, 0)
		s.sendAck(0x40, 1)
		if left := expiryOf(t, s.ExpectPacket()); left > time.Hour || left < time.Hour-3*time.Second {
			t.Errorf("%v left of nine hours after eight", left)
		}
		pending(t, long)
	})
}

// A board whose clock learns the date has not waited for 56 years, and one whose clock
// is set back does not send more than the whole.
func TestExpiryDoesNotFollowTheWallClock(t *testing.T) {
	for name, wrong := range map[string]time.Duration{"from 1970 to today": -30 * years, "back": 53 * years} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock := newTestClock()
				clock.set(wrong) // from the bubble's time, which begins in 2000
				s := script(t, mqtt.V5, clock.option(), mqtt.WithMaxInflight(1))
				s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
				s.ExpectPacket()
				s.conn.Publish(t.Context(), of("x", 1, time.Minute))
				time.Sleep(10 * time.Second)
				clock.set(26 * years)
				time.Sleep(10 * time.Second)
				s.sendAck(0x40, 1)
				if left := expiryOf(t, s.ExpectPacket()); left != 40*time.Second {
					t.Errorf("%v left of a minute after 20 s", left)
				}
			})
		})
	}
}

// What is left of the expiry of a stored message, over the end of the process: by the
// clock of the boot while that lasts, after a reboot by the wall clock if it can be,
// and never more than was left.
func TestExpiryOfStoredMessagesFromProcessToProcess(t *testing.T) {
	const whole = time.Hour
	for name, tc := range map[string]struct {
		begin, then time.Duration // how wrong the wall clock is when the message is stored, and at the next start
		off         time.Duration // the machine is off for; 0: it is the process alone that ends
		left        time.Duration
	}{
		"the process alone, for a minute":             {left: whole - 2*time.Minute},
		"the wall clock set meanwhile":                {begin: -30 * years, left: whole - 2*time.Minute},
		"the wall clock set back meanwhile":           {then: -27 * years, left: whole - 2*time.Minute},
		"a reboot of ten minutes":                     {off: 10 * time.Minute, left: whole - 12*time.Minute},
		"a reboot, the clock behind":                  {off: 10 * time.Minute, then: -27 * years, left: whole},
		"a reboot, the clock behind by a little":      {off: 10 * time.Minute, then: -5 * time.Minute, left: whole - 7*time.Minute},
		"a reboot, the clock was not set before":      {off: 10 * time.Minute, begin: -30 * years, left: whole},
		"a reboot, the clock was never set":           {off: 10 * time.Minute, begin: -30 * years, then: -30 * years, left: whole},
		"a reboot, the clock was set wrongly forward": {off: 10 * time.Minute, begin: 20 * years, left: whole},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock, d := newTestClock(), newDisk()
				clock.set(tc.begin)
				s := d.script(t, mqtt.V5, false, clock.option())
				s.offline()
				s.conn.Publish(t.Context(), of("x", 1, whole))
				time.Sleep(time.Minute)
				s.crash()
				time.Sleep(time.Minute)
				if tc.off > 0 {
					clock.reboot(tc.off)
				}
				clock.set(tc.then)
				s = d.script(t, mqtt.V5, true, clock.option())
				if left := expiryOf(t, s.ExpectPacket()); left > tc.left || left < tc.left-2*time.Second && tc.left != whole {
					t.Errorf("%v left, want %v", left, tc.left)
				} else if left < whole-3*time.Minute && tc.left == whole {
					t.Errorf("%v left, though nothing tells that time has passed", left)
				}
			})
		})
	}
}

// However often the machine boots with a clock that is behind, what is left grows less.
func TestExpiryNeverGrowsFromBootToBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock, d := newTestClock(), newDisk()
		s := d.script(t, mqtt.V5, false, clock.option())
		s.offline()
		s.conn.Publish(t.Context(), of("x", 1, time.Hour))
		synctest.Wait()
		left := time.Hour
		for i := range 5 {
			time.Sleep(5 * time.Minute)
			s.conn.Close() // in order, so that the store has what the clocks say
			clock.reboot(time.Minute)
			clock.set(-time.Duration(i+1) * years)
			s = d.script(t, mqtt.V5, true, clock.option(), mqtt.WithMaxInflight(1))
			now := expiryOf(t, s.ExpectPacket())
			if now > left-5*time.Minute {
				t.Errorf("%v left after %v and five minutes", now, left)
			}
			left = now
			s.offline()
		}
	})
}

// When the wall clock is set while a stored message waits, the store hears of it: the
// step is no time that passed for the process after the next boot.
func TestASetClockIsNotedInTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock, d := newTestClock(), newDisk()
		clock.set(-3 * 24 * time.Hour) // where the last shutdown left it
		s := d.script(t, mqtt.V5, false, clock.option())
		s.offline()
		s.conn.Publish(t.Context(), of("x", 1, time.Hour))
		time.Sleep(time.Minute)
		clock.set(0)
		time.Sleep(time.Minute)
		s.crash()
		clock.reboot(10 * time.Minute)
		s = d.script(t, mqtt.V5, true, clock.option())
		if left := expiryOf(t, s.ExpectPacket()); left > 48*time.Minute || left < 47*time.Minute {
			t.Errorf("%v left of an hour after 12 minutes", left)
		}
	})
}

// What a version without a clock of the session stored has a time of the wall clock
// alone; when that is behind now, the whole expiry is left and no more.
func TestExpiryStoredByAnOlderVersion(t *testing.T) {
	for name, behind := range map[string]time.Duration{"right": 0, "behind": 27 * years} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock, d := newTestClock(), newDisk()
				clock.set(30 * years)
				s := d.script(t, mqtt.V5, false, clock.option())
				s.offline()
				s.conn.Publish(t.Context(), of("x", 1, time.Hour))
				synctest.Wait()
				s.crash()
				meta, value := d.value(t, store.Meta, 0)
				d.put(t, store.Meta, meta.Seq, append([]byte{1}, value[1:9]...))
				time.Sleep(time.Minute)
				clock.set(30*years - behind)
				s = d.script(t, mqtt.V5, true, clock.option())
				if left := expiryOf(t, s.ExpectPacket()); left > time.Hour || behind == 0 && left > 59*time.Minute {
					t.Errorf("%v left of an hour", left)
				}
			})
		})
	}
}

// A session none of whose messages expires is stored as ever.
func TestClocksAreStoredOnlyForWhatExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		format := func() byte {
			_, value := d.value(t, store.Meta, 0)
			return value[0]
		}
		s := d.script(t, mqtt.V5, false)
		s.offline()
		s.conn.Publish(t.Context(), keyed("a", 1))
		synctest.Wait()
		s.crash()
		if n := format(); n != 1 {
			t.Errorf("format %d", n)
		}
		s = d.script(t, mqtt.V5, true)
		s.conn.Publish(t.Context(), of("x", 1, time.Hour))
		s.ExpectPacket()
		s.ExpectPacket()
		s.crash()
		if n := format(); n != 2 {
			t.Errorf("format %d with a message that expires", n)
		}
		s = d.script(t, mqtt.V5, true)
		s.ExpectPacket()
		s.ExpectPacket()
		s.sendAck(0x40, 1)
		s.sendAck(0x40, 2)
		s.conn.Close()
		d.script(t, mqtt.V5, true).conn.Close()
		if n := format(); n != 1 {
			t.Errorf("format %d after it", n)
		}
	})
}

// A store that does not take the message does not end the Conn for want of its clocks.
func TestClocksThatCannotBeStoredEndNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newDisk().script(t, mqtt.V5, false)
		s.offline()
		s.p.mu.Lock()
		s.p.fail = func([]store.Op) error { return store.ErrFull }
		s.p.mu.Unlock()
		for range 20 {
			if err := outcome(t, s.conn.Publish(t.Context(), of("x", 1, time.Hour))); !errors.Is(err, store.ErrFull) {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		if err := s.conn.Err(); err != nil {
			t.Error(err)
		}
	})
}

// counted is a backoff of always the same time that notes the attempts.
type counted struct {
	mu    sync.Mutex
	delay time.Duration
	asked []int
}

func (c *counted) Delay(a backoff.Attempt) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, a.N)
	return c.delay, true
}

// A machine that wakes connects at once, whatever was left of the backoff, and begins
// anew with it: its network may take a moment. A sleep shorter than that counts
// towards the delay.
func TestWakingEndsAnOldBackoff(t *testing.T) {
	for name, tc := range map[string]struct{ slept, wait time.Duration }{
		"eight hours":    {8 * time.Hour, 2 * time.Second},
		"twenty seconds": {20 * time.Second, 2 * time.Second},
		"five seconds":   {5 * time.Second, 105 * time.Second},
		"not at all":     {0, 110 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock, policy := newTestClock(), &counted{delay: 2 * time.Minute}
				network := &server.Network{}
				network.RefuseDials(-1, nil)
				conn, err := mqtt.Connect(t.Context(), "mqtt://server", clock.option(), mqtt.WithBackoff(policy),
					mqtt.WithDialer(network.Dial), mqtt.WithFirstConnect(mqtt.FirstConnectBackground))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				time.Sleep(2*time.Minute + 10*time.Second) // ten seconds into the second wait
				clock.sleep(tc.slept)
				dials := network.Dials()
				time.Sleep(tc.wait - time.Millisecond)
				if n := network.Dials() - dials; n != 0 && tc.slept < 10*time.Second {
					t.Errorf("%d dials too early", n)
				}
				time.Sleep(2 * time.Millisecond)
				if n := network.Dials() - dials; n != 1 {
					t.Errorf("%d dials within %v", n, tc.wait)
				}
				last := 3
				if tc.slept >= 10*time.Second {
					last = 1
				}
				synctest.Wait()
				policy.mu.Lock()
				defer policy.mu.Unlock()
				if got := policy.asked[len(policy.asked)-1]; got != last {
					t.Errorf("attempt %d, want %d", got, last)
				}
			})
		})
	}
}
