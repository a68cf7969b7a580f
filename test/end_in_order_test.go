package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// This file tests what may come in between while a connection ends in order.

// A server that closes its side before the DISCONNECT was written has not seen it:
// the error of the network stays.
func TestEOFBeforeDisconnectIsNoEndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		events := d.conn.Watch(t.Context())
		w.Stall(server.ToServer)
		d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: make([]byte, 1<<20)})
		go d.conn.Disconnect(ended(t))
		synctest.Wait()
		w.Conn().CloseWrite()
		if err := await[mqtt.Disconnected](t, events).Err; errors.Is(err, mqtt.ErrClosed) {
			t.Errorf("Disconnected.Err: %v, want the error of the network", err)
		}
	})
}

// What is found late behind the DISCONNECT does not end the wait for the server: it
// gets FIN after half of the time all the same.
func TestNothingCutsTheWaitForTheServerShort(t *testing.T) {
	cases := map[string]struct {
		opts   []mqtt.ConnectOption
		before func(w *server.Wire)
		answer byte // to the publish, behind the DISCONNECT
	}{
		"an answer of the wrong kind": {answer: 0x70}, // PUBCOMP for QoS 1
		"a ping timeout": {
			opts:   []mqtt.ConnectOption{mqtt.WithKeepAlive(2 * time.Second), mqtt.WithPingTimeout(300 * time.Millisecond)},
			before: func(w *server.Wire) { w.Expect(server.Pingreq) },
		},
		"a publish timeout": {
			opts: []mqtt.ConnectOption{mqtt.WithAckTimeout(300 * time.Millisecond)},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			inEachVersion(t, func(t *testing.T, v mqtt.Version) {
				d := dial(t, append(c.opts, mqtt.WithVersions(v), mqtt.WithSession(time.Hour))...)
				w := d.up(connack(v, false))
				events := d.conn.Watch(t.Context())
				fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "a", QoS: 1})
				w.ExpectPacket()
				if c.before != nil {
					c.before(w)
				}
				start := time.Now()
				go d.conn.Disconnect(ended(t))
				w.Expect("E0 00")
				if c.answer != 0 {
					w.SendBytes(rawAck(c.answer, fut.PacketID()))
				}
				w.ExpectEOF()
				wantAfter(t, "FIN", start, 500*time.Millisecond)
				wantErr(t, "Disconnected.Err", await[mqtt.Disconnected](t, events).Err, mqtt.ErrClosed)
				wantAfter(t, "Disconnected", start, time.Second)
			})
		})
	}
}

// Only the QoS 2 exchanges that Close found count for its wait: one that is
// acknowledged and finished later does not stand for one that is not.
func TestCloseAwaitsTheReleasesItFound(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		d, w, ch := dialSubscribed(t, v, mqtt.QoS(2), mqtt.WithManualAck())
		w.SendBytes(rawPublish(v, 0x34, 1, "t", "x"))
		w.SendBytes(rawPublish(v, 0x34, 2, "t", "y"))
		first, second := <-ch, <-ch
		wantErr(t, "Ack", first.Ack(), nil)
		w.ExpectBytes(rawAck(0x50, 1))
		start := time.Now()
		go d.conn.Close()
		synctest.Wait()
		wantErr(t, "Ack during Close", second.Ack(), nil)
		w.ExpectBytes(rawAck(0x50, 2))
		w.SendBytes(rawAck(0x62, 2))
		w.ExpectBytes(rawAck(0x70, 2))
		w.Expect("E0 00")
		wantAfter(t, "DISCONNECT", start, 500*time.Millisecond)
		w.Close()
		<-d.conn.Done()
	})
}

// slowText is a codec whose decoding takes a time.
type slowText time.Duration

func (c slowText) Decode(m mqtt.Message) (string, error) {
	time.Sleep(time.Duration(c))
	return string(m.Payload), nil
}

func (slowText) Encode(s string) ([]byte, error) { return []byte(s), nil }

// A value that is still being decoded when the DISCONNECT leaves is neither handed
// over nor acknowledged: the server keeps it.
func TestValueDecodedAfterDisconnectIsNotHandedOver(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		const subscriptions = 8
		topic := func(i uint16) string { return fmt.Sprint("t", i) }
		opts := []mqtt.ConnectOption{mqtt.WithVersions(v), mqtt.WithSession(time.Hour)}
		for i := range uint16(subscriptions) {
			opts = append(opts, mqtt.WithSubscription(topic(i), mqtt.QoS(1)))
		}
		d := dial(t, opts...)
		w, _ := d.accept(connack(v, true))
		w.ExpectPacket() // SUBSCRIBE
		synctest.Wait()
		var values []<-chan mqtt.Typed[string]
		for i := range uint16(subscriptions) {
			s := mqtt.AsTyped(d.conn.Subscription(topic(i)), slowText(700*time.Millisecond))
			values = append(values, s.C())
			w.SendBytes(rawPublish(v, 0x32, i+1, topic(i), "x"))
		}
		synctest.Wait()
		start := time.Now()
		go d.conn.Close()
		w.Expect("E0 00")
		wantAfter(t, "DISCONNECT", start, 500*time.Millisecond)
		<-d.conn.Done()
		for _, ch := range values {
			if late := drainClosed(t, ch); len(late) > 0 {
				t.Errorf("handed over: %v", late)
			}
		}
	})
}

// When nothing is pending the end is complete, also under a context that has ended.
func TestEndUnderAnEndedContextWithNothingPending(t *testing.T) {
	ends := map[string]func(c *mqtt.Conn, ctx context.Context) error{
		"Disconnect": func(c *mqtt.Conn, ctx context.Context) error { return c.Disconnect(ctx) },
		"Drain":      (*mqtt.Conn).Drain,
	}
	for how, end := range ends {
		inEachVersion(t, func(t *testing.T, v mqtt.Version) {
			d := dial(t, mqtt.WithVersions(v))
			w := d.up(connack(v, false))
			go closeAfterDisconnect(w)
			wantErr(t, how, end(d.conn, ended(t)), nil)
		})
	}
}

// What a server sends behind its fault is thrown away unparsed, also when the fault
// was found after the packet had been read.
func TestWhatArrivesBehindFault(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		d, w, ch := dialSubscribed(t, v, mqtt.QoS(1))
		fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "a", QoS: 1})
		w.ExpectPacket()
		w.SendBytes(rawAck(0x70, fut.PacketID())) // PUBCOMP for QoS 1
		if v == mqtt.V5 {
			w.Expect("E0 01 82")
		} else {
			w.ExpectEOF()
		}
		before := d.conn.Stats().Received
		w.SendBytes(rawPublish(v, 0x30, 0, "t", "x"))
		w.SendBytes(rawPublish(v, 0x32, 7, "t", "y"))
		synctest.Wait()
		if got := d.conn.Stats().Received; got != before {
			t.Errorf("%d messages were taken in", got-before)
		}
		idle(t, ch)
	})
}

// Reconnect lets a reader that waits for a slow consumer read on, so that the server
// can read our DISCONNECT.
func TestReconnectReadsOnBehindASlowConsumer(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		d, w, _ := dialSubscribed(t, v, mqtt.QoS(1), mqtt.WithBuffer(1), mqtt.WithSlowPolicy(mqtt.SlowBlock), mqtt.WithPendingLimit(2, 1<<20))
		for id := range uint16(20) {
			w.SendBytes(rawPublish(v, 0x32, id+1, "t", "x"))
			synctest.Wait()
		}
		if w.Conn().Link().Pending(server.ToClient) == 0 {
			t.Fatal("the reader does not wait for the consumer")
		}
		start := time.Now()
		wantErr(t, "Reconnect", d.conn.Reconnect(), nil)
		w.ExpectBytes(rawAck(0x40, 1)) // is in the channel
		w.Expect("E0 00")
		synctest.Wait()
		if n := w.Conn().Link().Pending(server.ToClient); n > 0 {
			t.Errorf("%d bytes were not read", n)
		}
		w.Close()
		d.Accept(t.Context())
		wantAfter(t, "the next connection", start, 0)
	})
}

// A QoS 0 message that comes while Reconnect waits for the server fails at once, as
// it does without a connection.
func TestPublishQoS0DuringReconnect(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		d := dial(t, mqtt.WithVersions(v))
		w := d.up(connack(v, false))
		wantErr(t, "Reconnect", d.conn.Reconnect(), nil)
		w.Expect("E0 00")
		takes(t, 0, "the result of Publish", func() {
			err := outcome(t, d.conn.Publish(t.Context(), mqtt.Message{Topic: "t"}))
			wantErr(t, "Publish", err, mqtt.ErrNotConnected)
			if p, ok := errors.AsType[*mqtt.PublishError](err); !ok || p.MayHaveArrived {
				t.Errorf("Publish: %v, want not sent", err)
			}
		})
	})
}
