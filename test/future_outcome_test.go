package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/mqtttest/server"
)

// The Future of a publish whose PUBACK is withheld stays pending over cuts,
// and resolves once, by the acknowledgement of the packet sent again.
func TestFutureOutlivesCuts(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithSession(time.Hour))
		f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		id := f.PacketID()
		s.expectPublish(0x32, id, "t", "")
		done := f.Done()
		for range 3 {
			s.recut(connack(v, true))
			s.expectPublish(0x3A, id, "t", "")
			pending(t, f)
		}
		s.sendAck(0x40, id)
		<-done
		succeeded(t, f)
		s.sendAck(0x40, id) // repeated: counted, and nothing else
		succeeded(t, f)
		if n := s.conn.Stats().IgnoredAcks; n != 1 {
			t.Errorf("%d ignored acknowledgements", n)
		}
	})
}

func textAt(qos mqtt.QoS) mqtt.Message {
	return mqtt.Message{Topic: "t", Payload: []byte("x"), QoS: qos}
}

// failures are the causes of failure, each with what brings it about.
var failures = []struct {
	name    string
	want    error
	arrived bool
	run     func(t *testing.T) *mqtt.Future
}{
	{"session lost", mqtt.ErrSessionLost, true, func(t *testing.T) *mqtt.Future {
		s := script(t, mqtt.V5, mqtt.WithSession(time.Hour))
		f := s.conn.Publish(t.Context(), textAt(2))
		s.expectPublish(0x34, 1, "t", "x")
		s.recut(server.Connack)
		return f
	}},
	{"closed in flight", mqtt.ErrClosed, true, func(t *testing.T) *mqtt.Future {
		s := script(t, mqtt.V5)
		f := s.conn.Publish(t.Context(), textAt(1))
		s.expectPublish(0x32, 1, "t", "x")
		s.conn.Close()
		return f
	}},
	{"closed offline", mqtt.ErrClosed, false, func(t *testing.T) *mqtt.Future {
		s := script(t, mqtt.V5)
		s.net.RefuseDials(-1, nil)
		s.Cut()
		synctest.Wait()
		f := s.conn.Publish(t.Context(), textAt(1))
		s.conn.Close()
		return f
	}},
	{"after the end", mqtt.ErrClosed, false, func(t *testing.T) *mqtt.Future {
		s := script(t, mqtt.V5)
		s.conn.Abort()
		return s.conn.Publish(t.Context(), textAt(1))
	}},
	{"refused", mqtt.ErrNotAuthorized, false, func(t *testing.T) *mqtt.Future {
		s := script(t, mqtt.V5)
		f := s.conn.Publish(t.Context(), textAt(1))
		s.expectPublish(0x32, 1, "t", "x")
		s.Send("40 03 0001 87")
		return f
	}},
	{"wrong acknowledgement on 3.x", mqtt.ErrWrongAck, true, func(t *testing.T) *mqtt.Future {
		s := script(t, mqtt.V311)
		f := s.conn.Publish(t.Context(), textAt(2))
		s.expectPublish(0x34, 1, "t", "x")
		s.sendAck(0x40, 1)
		return f
	}},
	{"expired in the queue", mqtt.ErrExpired, false, func(t *testing.T) *mqtt.Future {
		s := script(t, mqtt.V5)
		s.net.RefuseDials(1, nil)
		s.Cut()
		synctest.Wait()
		m := textAt(1)
		m.Properties = &mqtt.Properties{Expiry: time.Second}
		f := s.conn.Publish(t.Context(), m)
		time.Sleep(1500 * time.Millisecond)
		s.next(server.Connack)
		return f
	}},
	{"dropped", mqtt.ErrDropped, false, func(t *testing.T) *mqtt.Future {
		s := script(t, mqtt.V5, mqtt.WithQueue(1, 0, mqtt.QueueDropOldest))
		s.net.RefuseDials(-1, nil)
		s.Cut()
		synctest.Wait()
		f := s.conn.Publish(t.Context(), textAt(1))
		s.conn.Publish(t.Context(), textAt(1))
		return f
	}},
	{"queue full", mqtt.ErrQueueFull, false, func(t *testing.T) *mqtt.Future {
		s := script(t, mqtt.V5, mqtt.WithQueue(1, 0, mqtt.QueueWait))
		s.conn.Publish(t.Context(), textAt(1))
		return s.conn.TryPublish(textAt(1))
	}},
	{"canceled", mqtt.ErrCanceled, false, func(t *testing.T) *mqtt.Future {
		s := script(t, mqtt.V5, mqtt.WithMaxInflight(1))
		s.conn.Publish(t.Context(), textAt(1))
		f := s.conn.Publish(t.Context(), textAt(1))
		if !f.Cancel() || f.Cancel() {
			t.Error("Cancel did not take the message back exactly once")
		}
		return f
	}},
	{"context", context.Canceled, false, func(t *testing.T) *mqtt.Future {
		s := script(t, mqtt.V5, mqtt.WithQueue(1, 0, mqtt.QueueWait))
		s.conn.Publish(t.Context(), textAt(1))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		return s.conn.Publish(ctx, textAt(1))
	}},
	{"too large", mqtt.ErrPacketTooLarge, false, func(t *testing.T) *mqtt.Future {
		s := scriptWith(t, mqtt.V5, "20 08 00 00 05 27 00000008")
		return s.conn.Publish(t.Context(), textAt(1))
	}},
	{"above the server's QoS", mqtt.ErrNotSupported, false, func(t *testing.T) *mqtt.Future {
		s := scriptWith(t, mqtt.V5, "20 05 00 00 02 24 00")
		return s.conn.Publish(t.Context(), textAt(1))
	}},
	{"set aside", mqtt.ErrSetAside, true, func(t *testing.T) *mqtt.Future {
		s := script(t, mqtt.V5, mqtt.WithSession(time.Hour))
		f := s.conn.Publish(t.Context(), textAt(1))
		for range 5 { // two young links, then three that probe
			s.ExpectPacket()
			s.Cut()
			s.next(server.ConnackPresent)
		}
		return f
	}},
	{"QoS 0 without a link", mqtt.ErrNotConnected, false, func(t *testing.T) *mqtt.Future {
		s := script(t, mqtt.V5)
		s.net.RefuseDials(-1, nil)
		s.Cut()
		synctest.Wait()
		return s.conn.Publish(t.Context(), textAt(0))
	}},
	{"closed while it waits for a place", mqtt.ErrClosed, false, func(t *testing.T) *mqtt.Future {
		s := script(t, mqtt.V5, mqtt.WithQueue(1, 0, mqtt.QueueWait))
		s.conn.Publish(t.Context(), textAt(1))
		time.AfterFunc(time.Second, s.conn.Abort)
		return s.conn.Publish(t.Context(), textAt(1))
	}},
	{"QoS 0 behind a write that never ended", mqtt.ErrLinkLost, false, func(t *testing.T) *mqtt.Future {
		s := script(t, mqtt.V5)
		s.Stall(server.ToServer)
		m := textAt(0)
		m.Payload = make([]byte, 300<<10) // more than the connection holds
		s.conn.Publish(t.Context(), m)
		synctest.Wait()
		f := s.conn.Publish(t.Context(), textAt(0))
		pending(t, f)
		s.Cut()
		return f
	}},
	{"QoS 0 whose write fails", mqtt.ErrLinkLost, true, func(t *testing.T) *mqtt.Future {
		s := script(t, mqtt.V5)
		s.CutAfter(server.ToServer, 3)
		return s.conn.Publish(t.Context(), textAt(0))
	}},
}

// Every cause of failure resolves the Future once, with an error of its own
// that says whether the server may have the message.
func TestEachCauseOfFailureHasItsOwnError(t *testing.T) {
	for _, c := range failures {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := c.run(t)
				synctest.Wait()
				err := f.Err()
				e, ok := errors.AsType[*mqtt.PublishError](err)
				if !errors.Is(err, c.want) || !ok {
					t.Fatalf("%v (%T)", err, err)
				}
				if e.MayHaveArrived != c.arrived {
					t.Errorf("MayHaveArrived is %t: %v", e.MayHaveArrived, err)
				}
				for _, other := range failures {
					if other.want != c.want && errors.Is(err, other.want) {
						t.Errorf("%v is %v too", err, other.want)
					}
				}
				if f.Stage() != mqtt.StageDone {
					t.Errorf("stage %v", f.Stage())
				}
			})
		})
	}
}

// For N publishes under random cuts exactly N Futures resolve, and those with nil
// are a subset of what the server holds, QoS 2 once each.
func TestFuturesOverRandomCuts(t *testing.T) {
	seed := chance.Seed(t)
	for round := range chance.Rounds(30, 3000) {
		for _, v := range versions {
			for _, kept := range []bool{true, false} {
				synctest.Test(t, func(t *testing.T) {
					randomCuts(t, v, kept, chance.Stream(seed, uint64(round)))
				})
				if t.Failed() {
					t.Fatalf("round %d, %v, session kept %t", round, v, kept)
				}
			}
		}
	}
}

// cutAtRandom makes each of the next n links break after some bytes.
func cutAtRandom(network *server.Network, n int, rng *rand.Rand) {
	type cut struct {
		d  server.Direction
		at int64
	}
	plan := make([]cut, n)
	for i := range plan {
		plan[i] = cut{[]server.Direction{server.ToServer, server.ToClient}[rng.IntN(2)], int64(rng.IntN(400))}
	}
	network.OnLink(func(l *server.Link) { // one dial at a time
		if len(plan) > 0 {
			l.CutAfter(plan[0].d, plan[0].at)
			plan = plan[1:]
		}
	})
}

func randomCuts(t *testing.T, v mqtt.Version, kept bool, rng *rand.Rand) {
	opts := []mqtt.ConnectOption{mqtt.WithMaxInflight(1 + rng.IntN(20))}
	if kept {
		opts = append(opts, mqtt.WithSession(time.Hour))
	}
	conn, srv, network := serve(t, v, server.Config{}, opts...)
	cutAtRandom(network, 7, rng)
	fs := make([]*mqtt.Future, 200)
	for i := range fs {
		fs[i] = conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: fmt.Append(nil, i), QoS: mqtt.QoS(rng.IntN(3))})
		switch rng.IntN(20) {
		case 0:
			network.CutAll()
		case 1:
			time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
		}
	}
	flush(t, conn)
	synctest.Wait()
	held := map[string]int{}
	for _, r := range srv.Received() {
		held[string(r.Payload)]++
	}
	for i, f := range fs {
		n := held[fmt.Sprint(i)]
		err := f.Err()
		switch r := f.Result(); {
		case err == mqtt.ErrPending:
			t.Errorf("publish %d is unresolved", i)
		case err == nil && r.PacketID != 0 && n == 0:
			t.Errorf("publish %d resolved with nil, and the server has not got it", i)
		case err != nil && kept && !errors.Is(err, mqtt.ErrLinkLost) && !errors.Is(err, mqtt.ErrNotConnected) && !errors.Is(err, mqtt.ErrSetAside):
			t.Errorf("publish %d: %v", i, err)
		case n > 1 && kept:
			t.Errorf("the server took publish %d %d times as new", i, n)
		}
		if e, ok := errors.AsType[*mqtt.PublishError](err); ok && !e.MayHaveArrived && n > 0 {
			t.Errorf("publish %d arrived, and its error says it was not sent: %v", i, err)
		}
	}
	if s := conn.Stats(); s.Queued != 0 || s.QueuedBytes != 0 || s.Inflight != 0 {
		t.Errorf("left behind: %+v", s)
	}
}
