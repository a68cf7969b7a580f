package mqtt_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// One subscription is never read while messages keep coming for 10 keep-alive periods.
func TestUnreadSubscriptionStopsNothing(t *testing.T) {
	for _, qos := range []byte{0, 1} {
		t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
			inEachVersion(t, func(t *testing.T, v mqtt.Version) {
				conn, srv, _ := serve(t, v, server.Config{Inflight: 40}, mqtt.WithKeepAlive(10*time.Second))
				events := conn.Watch(t.Context())
				unread := subscribe(t, conn, "unread", mqtt.WithBuffer(4), mqtt.WithPendingLimit(50, 0))
				unread.C()
				other := subscribe(t, conn, "other")
				for i := range 100 {
					publish(t, srv, "unread", qos, "x")
					publish(t, srv, "other", 0, fmt.Sprint(i))
					expect(t, other.C(), fmt.Sprint(i))
					succeeded(t, conn.Publish(t.Context(), mqtt.Message{Topic: "p", QoS: 1}))
					if i%10 == 0 {
						succeeded(t, conn.Publish(t.Context(), mqtt.Message{Topic: "p", QoS: 2}))
						if err := subscribe(t, conn, "another").Unsubscribe(t.Context()); err != nil {
							t.Error(err)
						}
					}
					time.Sleep(time.Second)
				}
				st := unread.Stats()
				if qos == 0 && (st.Pending > 51 || st.Dropped != 45) || st.Pending > 101 {
					t.Errorf("%+v", st)
				}
				if links(srv) != 1 {
					t.Errorf("%d links", links(srv))
				}
				for {
					select {
					case e := <-events:
						if d, ok := e.(mqtt.Disconnected); ok {
							t.Errorf("disconnected: %v", d.Err)
						}
						continue
					default:
					}
					break
				}
			})
		})
	}
}

// A handler that sleeps longer than the keep alive for each message.
func TestSlowHandlerStopsNothing(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{}, mqtt.WithKeepAlive(2*time.Second))
		sub := subscribe(t, conn, "t", mqtt.QoS(2))
		var got []string
		if err := sub.Handle(func(m mqtt.Message) { time.Sleep(10 * time.Second); got = append(got, string(m.Payload)) }); err != nil {
			t.Fatal(err)
		}
		publish(t, srv, "t", 2, numbers(1, 20)...)
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		if !slices.Equal(got, numbers(1, 20)) || links(srv) != 1 {
			t.Errorf("got %v over %d links", got, links(srv))
		}
		if srv.Stats().Packets[codec.PINGREQ] < 50 {
			t.Errorf("%d pings", srv.Stats().Packets[codec.PINGREQ])
		}
	})
}

// QoS 1 and 2 are held un-acked: the server's window fills, nothing is lost,
// and all arrive in order when reading resumes.
func TestSlowHoldFillsTheServersWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, srv, _ := serve(t, mqtt.V5, server.Config{}, mqtt.WithReceiveMaximum(20))
		sub := subscribe(t, conn, "t", mqtt.WithBuffer(5))
		ch := sub.C()
		publish(t, srv, "t", 1, numbers(1, 100)...)
		time.Sleep(5 * time.Minute)
		info, _ := srv.Session("c")
		if info.Open != 20 || info.Queued != 75 {
			t.Errorf("%+v", info)
		}
		if st := sub.Stats(); st.Pending != 20 || st.Dropped != 0 || st.Oldest != 5*time.Minute && st.Oldest != 0 {
			t.Errorf("%+v", st)
		}
		expect(t, ch, numbers(1, 100)...)
		eventually(t, "all acked", func() bool { i, _ := srv.Session("c"); return i.Open+i.Queued == 0 })
	})
}

// QoS 0 gives way by policy, counted exactly, told once at the start and once at the end.
func TestSlowConsumerQoS0Policies(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy mqtt.SlowPolicy
		topics int
		want   []string
		drops  uint64
	}{
		{"oldest", mqtt.SlowHold, 1, slices.Concat(numbers(1, 3), numbers(91, 100)), 87},
		{"newest", mqtt.SlowDropNewest, 1, numbers(1, 13), 87},
		{"latest", mqtt.SlowLatest, 1, []string{"1", "2", "3", "100"}, 96},
		{"latest of many topics", mqtt.SlowLatest, 50, slices.Concat(numbers(1, 3), numbers(91, 100)), 87},
	} {
		t.Run(c.name, func(t *testing.T) {
			inEachVersion(t, func(t *testing.T, v mqtt.Version) {
				s := script(t, v)
				events := s.conn.Watch(t.Context())
				sub := s.subscribed("t/#", 0, mqtt.WithSlowPolicy(c.policy), mqtt.WithBuffer(2), mqtt.WithPendingLimit(10, 0))
				ch := sub.C()
				for i := range 100 {
					s.message(0x30, 0, fmt.Sprint("t/", i%c.topics), fmt.Sprint(i+1))
				}
				if st := sub.Stats(); st.Dropped != c.drops || st.Pending+2+int(st.Dropped) != 100 {
					t.Errorf("%+v", st)
				}
				var got []string
				for range len(c.want) {
					got = append(got, string(take(t, ch).Payload))
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("got %v, want %v", got, c.want)
				}
				idle(t, ch)
				if e := nextEvent[mqtt.SlowConsumer](t, events); !e.Started || e.Filter != "t/#" {
					t.Errorf("%+v", e)
				}
				if e := nextEvent[mqtt.SlowConsumer](t, events); e.Started || e.Dropped != c.drops || e.Pending != 0 {
					t.Errorf("%+v", e)
				}
				idle(t, events)
			})
		})
	}
}

// Bounds are in bytes too.
func TestPendingLimitInBytes(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{})
		sub := subscribe(t, conn, "t", mqtt.WithPendingLimit(0, 10_000))
		for range 100 {
			publish(t, srv, "t", 0, strings.Repeat("x", 1000))
			synctest.Wait()
		}
		if st := sub.Stats(); st.PendingBytes > 10_000 || st.Pending != 9 || st.Dropped != 91 {
			t.Errorf("%+v", st)
		}
	})
}

// Above the limit the reader pauses while the consumer makes progress; pings still
// leave and the pause is not the server's silence.
func TestReaderPausesWhileTheConsumerMakesProgress(t *testing.T) {
	for _, policy := range []mqtt.SlowPolicy{mqtt.SlowHold, mqtt.SlowBlock} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			inEachVersion(t, func(t *testing.T, v mqtt.Version) {
				conn, srv, _ := serve(t, v, server.Config{Inflight: 10_000}, mqtt.WithKeepAlive(10*time.Second))
				events := conn.Watch(t.Context())
				sub := subscribe(t, conn, "t", mqtt.WithSlowPolicy(policy), mqtt.WithBuffer(0), mqtt.WithPendingLimit(10, 20_000))
				var got []string
				sub.Handle(func(m mqtt.Message) {
					time.Sleep(20 * time.Second)
					got = append(got, string(m.Payload[:3]))
				})
				var want []string
				for i := range 60 {
					want = append(want, fmt.Sprintf("%03d", i))
					publish(t, srv, "t", 1, fmt.Sprintf("%03d", i)+strings.Repeat("x", 2000))
				}
				paused := false
				for !paused {
					paused = nextEvent[mqtt.SlowConsumer](t, events).Paused
				}
				f := conn.Publish(t.Context(), mqtt.Message{Topic: "p"})
				succeeded(t, f)
				time.Sleep(25 * time.Minute)
				synctest.Wait()
				if !slices.Equal(got, want) || links(srv) != 1 || sub.Err() != nil {
					t.Errorf("got %v over %d links, %v", got, links(srv), sub.Err())
				}
				if n := srv.Stats().KeepAliveTimeouts; n != 0 {
					t.Errorf("%d keep alive timeouts", n)
				}
			})
		})
	}
}

// While the reader pauses it cannot hear an acknowledgement, so the link does not
// end for want of one; the time without progress goes on, and the subscription is
// evicted in the end.
func TestPausedReaderMissesNoAck(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311} {
		for _, evicted := range []bool{true, false} {
			t.Run(fmt.Sprint(v, " evicted ", evicted), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := script(t, v, mqtt.WithSession(time.Hour), mqtt.WithAckTimeout(2*time.Second), mqtt.WithSubscribeTimeout(3*time.Second))
					events := s.conn.Watch(t.Context())
					sub := s.subscribed("t", 1, mqtt.WithPendingLimit(2, 0))
					f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "p", QoS: 1})
					other, err := s.conn.Subscribe(t.Context(), "o", mqtt.WithoutWaiting())
					if err != nil {
						t.Fatal(err)
					}
					p := s.ExpectPacket()
					publish, asked := binary.BigEndian.Uint16(p[5:]), binary.BigEndian.Uint16(s.ExpectPacket()[2:])
					for i := range uint16(3) {
						s.message(0x32, 11+i, "t", "x")
					}
					if e := nextEvent[mqtt.SlowConsumer](t, events); !e.Paused {
						t.Fatalf("%+v", e)
					}
					s.sendAck(0x40, publish)
					s.suback(0x90, asked, 1)
					time.Sleep(20 * time.Second)
					if !evicted {
						expect(t, sub.C(), "x", "x", "x")
						idle(t, sub.C())
					}
					succeeded(t, f)
					<-other.Ready()
					if e := told[mqtt.Disconnected](s.conn); len(e) > 0 {
						t.Errorf("%+v", e)
					}
					if err := sub.Err(); errors.Is(err, mqtt.ErrSlowConsumer) != evicted {
						t.Errorf("the subscription ended with %v", err)
					}
				})
			})
		}
	}
}

// A subscription over its limit that makes no progress for 30 s is evicted; what it
// held is acked in order, counted and told.
func TestStuckConsumerIsEvicted(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{Inflight: 10_000})
		events := conn.Watch(t.Context())
		stuck := subscribe(t, conn, "t", mqtt.WithBuffer(0), mqtt.WithPendingLimit(10, 20_000))
		stuck.C()
		fine := subscribe(t, conn, "f")
		began := time.Now()
		for range 30 {
			publish(t, srv, "t", 1, strings.Repeat("x", 2000))
		}
		publish(t, srv, "f", 1, "behind it")
		expect(t, fine.C(), "behind it")
		if d := time.Since(began); d != 30*time.Second {
			t.Errorf("evicted after %v", d)
		}
		if !errors.Is(stuck.Err(), mqtt.ErrSlowConsumer) {
			t.Errorf("Err is %v", stuck.Err())
		}
		drainClosed(t, stuck.C())
		for {
			if e := nextEvent[mqtt.SlowConsumer](t, events); e.Evicted {
				break
			}
		}
		eventually(t, "all acked", func() bool { i, _ := srv.Session("c"); return i.Open == 0 })
		if got := held(srv); !slices.Equal(got, []string{"f"}) {
			t.Errorf("the server holds %v", got)
		}
		if stuck.Stats().Dropped == 0 {
			t.Error("nothing counted")
		}
	})
}

// The 30 s begin anew with each message that the consumer takes, and with nothing else: it
// is evicted within a sixteenth of them after they are over.
func TestConsumerThatStopsIsEvictedInTime(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{Inflight: 10_000})
		stuck := subscribe(t, conn, "t", mqtt.WithBuffer(0), mqtt.WithPendingLimit(10, 20_000))
		ch := stuck.C()
		began := time.Now()
		for range 50 {
			publish(t, srv, "t", 1, strings.Repeat("x", 2000))
		}
		for range 3 {
			time.Sleep(25 * time.Second)
			<-ch
		}
		<-stuck.Done()
		if d := time.Since(began) - 75*time.Second; d < 30*time.Second || d > 32*time.Second {
			t.Errorf("evicted %v after the last message was taken", d)
		}
		if !errors.Is(stuck.Err(), mqtt.ErrSlowConsumer) {
			t.Errorf("Err is %v", stuck.Err())
		}
	})
}

// Evict without the pause.
func TestSlowEvictPolicy(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		for _, qos := range []byte{0, 1} {
			conn, srv, _ := serve(t, v, server.Config{Inflight: 10_000})
			sub := subscribe(t, conn, "t", mqtt.WithSlowPolicy(mqtt.SlowEvict), mqtt.WithBuffer(1), mqtt.WithPendingLimit(5, 0))
			sub.C()
			began := time.Now()
			publish(t, srv, "t", qos, numbers(1, 20)...)
			<-sub.Done()
			if !errors.Is(sub.Err(), mqtt.ErrSlowConsumer) || time.Since(began) > time.Second {
				t.Errorf("after %v: %v", time.Since(began), sub.Err())
			}
			conn.Close()
		}
	})
}

// Block never evicts, and Close lifts the pause.
func TestSlowBlockNeverEvictsAndCloseEndsThePause(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{Inflight: 10_000}, mqtt.WithKeepAlive(10*time.Second))
		sub := subscribe(t, conn, "t", mqtt.WithSlowPolicy(mqtt.SlowBlock), mqtt.WithBuffer(0), mqtt.WithPendingLimit(10, 0))
		ch := sub.C()
		for i := range 50 {
			publish(t, srv, "t", 0, fmt.Sprint(i+1))
			synctest.Wait()
		}
		time.Sleep(10 * time.Minute)
		if sub.Err() != nil || links(srv) != 1 || sub.Stats().Dropped != 0 || sub.Stats().Pending > 12 {
			t.Errorf("%v, %d links, %+v", sub.Err(), links(srv), sub.Stats())
		}
		expect(t, ch, numbers(1, 50)...)
		for i := range 50 {
			publish(t, srv, "t", 1, fmt.Sprint(i+1))
			synctest.Wait()
		}
		began := time.Now()
		conn.Close()
		if d := time.Since(began); d > time.Second {
			t.Errorf("Close took %v", d)
		}
	})
}

// A reader that waits for a subscription goes on when it ends.
func TestEndOfASubscriptionEndsThePause(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{Inflight: 10_000})
		ctx, cancel := context.WithCancel(t.Context())
		sub, err := conn.Subscribe(ctx, "t", mqtt.WithSlowPolicy(mqtt.SlowBlock), mqtt.WithBuffer(0), mqtt.WithPendingLimit(10, 0), mqtt.WithImmediateDelivery())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			publish(t, srv, "t", 1, fmt.Sprint(i+1))
			synctest.Wait()
		}
		if n := sub.Stats().Pending; n > 12 {
			t.Fatalf("%d pending, the reader does not wait", n)
		}
		began := time.Now()
		cancel()
		<-sub.Done()
		if err := conn.Publish(t.Context(), mqtt.Message{Topic: "x", QoS: 1}).Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("the link was read again after %v", d)
		}
	})
}

// QoS 0 that a subscription holds never makes the link pause for it.
func TestQoS0GivesWayToQoS1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V311)
		sub := s.subscribed("t", 1, mqtt.WithPendingLimit(10, 0))
		for i := range 20 {
			s.message(0x30, 0, "t", fmt.Sprint("q", i))
		}
		for i := range 10 {
			s.message(0x32, uint16(i+1), "t", fmt.Sprint(i+1))
		}
		if st := sub.Stats(); st.Pending != 10 || st.Dropped != 20 {
			t.Errorf("%+v", st)
		}
		s.Send(server.Pingresp)
		expect(t, sub.C(), numbers(1, 10)...)
	})
}

// Pause holds messages here, as those of a slow consumer; Resume goes on in order.
func TestPauseAndResume(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{})
		sub := subscribe(t, conn, "t", mqtt.WithBuffer(2))
		ch := sub.C()
		publish(t, srv, "t", 1, numbers(1, 5)...)
		synctest.Wait()
		sub.Pause()
		sub.Pause()
		publish(t, srv, "t", 1, numbers(6, 10)...)
		expect(t, ch, "1", "2")
		idle(t, ch)
		if st := sub.Stats(); st.Pending != 8 {
			t.Errorf("%+v", st)
		}
		info, _ := srv.Session("c")
		if info.Open != 8 || len(held(srv)) != 1 {
			t.Errorf("%+v", info)
		}
		sub.Resume()
		sub.Resume()
		expect(t, ch, numbers(3, 10)...)
		sub.Pause()
		publish(t, srv, "t", 1, "11")
		synctest.Wait()
		if err := sub.Unsubscribe(t.Context()); err != nil {
			t.Fatal(err)
		}
		sub.Resume()
		drainClosed(t, ch)
	})
}

// 3.x has no way to refuse a message that is too large: it is read past, acked and counted.
func TestOversize3x(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311} {
		synctest.Test(t, func(t *testing.T) {
			conn, srv, _ := serve(t, v, server.Config{}, mqtt.WithMaxPacketSize(1000))
			events := conn.Watch(t.Context())
			sub := subscribe(t, conn, "t", mqtt.QoS(2))
			for qos := range byte(3) {
				publish(t, srv, "t", qos, strings.Repeat("x", 5000), fmt.Sprint(qos))
				expect(t, sub.C(), fmt.Sprint(qos))
				e := nextEvent[mqtt.MessageDropped](t, events)
				if e.Topic != "t" || e.Size < 5000 || !errors.Is(e.Err, mqtt.ErrPacketTooLarge) || e.Total != uint64(qos+1) {
					t.Errorf("%+v", e)
				}
			}
			eventually(t, "all acked", func() bool { i, _ := srv.Session("c"); return i.Open == 0 })
			if n := conn.Stats().Oversize; n != 3 || links(srv) != 1 {
				t.Errorf("%d counted, %d links", n, links(srv))
			}
		})
	}
}

// An oversize PUBLISH with flags or an identifier that cannot be ends the link, and nothing else.
func TestOversize3xMalformed(t *testing.T) {
	for _, head := range []string{"36 E807 0001 74 0001", "32 E807 0001 74 0000"} {
		synctest.Test(t, func(t *testing.T) {
			s := script(t, mqtt.V311, mqtt.WithMaxPacketSize(100))
			// At once: the client may be gone before a second write.
			s.SendBytes(append(server.Hex(head), make([]byte, 1000-5)...))
			s.ExpectEOF()
		})
	}
}

// What a read brought for a subscription that is evicted in the middle of it is
// acknowledged to the last, though nothing more comes.
func TestEvictedWithinARead(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		sub := s.subscribed("t", 1, mqtt.WithPendingLimit(100, 150))
		var packets []byte
		for id := range uint16(8) {
			packets = append(packets, rawPublish(v, 0x32, id+1, "t", "x")...)
		}
		s.SendBytes(packets)
		<-sub.Done() // after 30 s
		for acks := 0; acks < 8; {
			switch p := s.ExpectPacket(); p[0] {
			case 0x40:
				acks++
			case 0xA2: // UNSUBSCRIBE
			default:
				t.Fatalf("got % X", p)
			}
		}
	})
}
