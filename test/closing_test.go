package mqtt_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// After DISCONNECT the client leaves closing to the server: it shuts nothing for
// half of the time that is left, for some proxies publish the will then.
func TestCloseLeavesClosingToTheServer(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		d := dial(t, mqtt.WithVersions(v))
		w := d.up(connack(v, false))
		events := d.conn.Watch(t.Context())
		closed := make(chan error, 1)
		start := time.Now()
		go func() { closed <- d.conn.Close() }()
		w.Expect("E0 00")
		w.ExpectNothing(400 * time.Millisecond)
		w.Close() // as a server does
		if err := <-closed; err != nil {
			t.Errorf("Close: %v", err)
		}
		if took := time.Since(start); took != 400*time.Millisecond {
			t.Errorf("Close took %v, want until the server closed", took)
		}
		wantErr(t, "Disconnected.Err", await[mqtt.Disconnected](t, events).Err, mqtt.ErrClosed)
	})
}

// A server that does not close gets FIN after half of the time, and the socket is
// closed when the time is over.
func TestCloseShutsTheSendingSideAfterHalfOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		start := time.Now()
		done := make(chan time.Duration, 1)
		go func() { d.conn.Close(); done <- time.Since(start) }()
		w.Expect("E0 00")
		w.ExpectEOF()
		if at := time.Since(start); at != 500*time.Millisecond {
			t.Errorf("FIN after %v, want 500 ms", at)
		}
		w.Send("D0 00") // can still be sent: the client reads on
		if took := <-done; took != time.Second {
			t.Errorf("Close took %v, want 1 s", took)
		}
	})
}

// Once the DISCONNECT is written, a reset is as good an end as EOF; before that the
// network's error stays.
func TestResetAfterDisconnectIsAnEndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		events := d.conn.Watch(t.Context())
		go d.conn.Close()
		w.Expect("E0 00")
		w.Cut()
		wantErr(t, "Disconnected.Err", await[mqtt.Disconnected](t, events).Err, mqtt.ErrClosed)
	})
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		events := d.conn.Watch(t.Context())
		w.Stall(server.ToServer)
		d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: make([]byte, 1<<20)})
		go d.conn.Close()
		time.Sleep(100 * time.Millisecond)
		w.Cut()
		if err := await[mqtt.Disconnected](t, events).Err; errors.Is(err, mqtt.ErrClosed) {
			t.Errorf("Disconnected.Err: %v, want the error of the network", err)
		}
	})
}

// A DISCONNECT of the server with an error is its own end of the link, also when it
// comes behind ours: the server had not read that.
func TestServersDisconnectBehindOursIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		events := d.conn.Watch(t.Context())
		go d.conn.Close()
		w.Expect("E0 00")
		w.Send("E0 01 81")
		w.Close()
		err := await[mqtt.Disconnected](t, events).Err
		if e, ok := errors.AsType[*mqtt.ReasonError](err); !ok || e.Code != codec.MalformedPacket {
			t.Errorf("Disconnected.Err: %v", err)
		}
		<-d.conn.Done()
		wantErr(t, "Err", d.conn.Err(), mqtt.ErrClosed)
	})
}

// A PUBLISH behind the DISCONNECT is not delivered, not acknowledged and not
// counted; the acknowledgement of an own publish counts.
func TestWhatArrivesAfterDisconnect(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		d, w, ch := dialSubscribed(t, v, mqtt.QoS(2))
		acked := d.conn.Publish(t.Context(), mqtt.Message{Topic: "a", QoS: 1})
		w.ExpectPacket()
		before := d.conn.Stats()
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // leaves the last words alone
		done := make(chan error, 1)
		go func() { done <- d.conn.Disconnect(ctx) }()
		w.Expect("E0 00")
		for _, head := range []byte{0x30, 0x32, 0x34} {
			w.SendBytes(rawPublish(v, head, 7, "t", "x"))
		}
		w.SendBytes(rawAck(0x62, 9))
		w.SendBytes(rawAck(0x40, packetIDOf(acked)))
		w.ExpectNothing(300 * time.Millisecond)
		w.Close()
		<-done
		succeeded(t, acked)
		if after := d.conn.Stats(); after.Received != before.Received || after.AcksOwed != 0 {
			t.Errorf("received %d, acknowledgements owed %d", after.Received, after.AcksOwed)
		}
		if m, ok := <-ch; ok {
			t.Errorf("delivered: %v", m)
		}
	})
}

func packetIDOf(f *mqtt.Future) uint16 { return f.PacketID() }

// A PUBREC behind the DISCONNECT of Reconnect moves the exchange on: the next link
// sends PUBREL, not PUBLISH. CONNECT waits until the server has closed.
func TestReconnectWaitsForTheServer(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		d := dial(t, mqtt.WithVersions(v), mqtt.WithSession(time.Hour))
		w := d.up(connack(v, false))
		fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "a", QoS: 2})
		w.ExpectPacket()
		if err := d.conn.Reconnect(); err != nil {
			t.Fatal(err)
		}
		if err := d.conn.Reconnect(); err != nil { // the second one changes nothing
			t.Fatal(err)
		}
		w.Expect("E0 00")
		w.SendBytes(rawAck(0x50, fut.PacketID()))
		d.ExpectNoDial(300 * time.Millisecond)
		w.Close()
		w = d.up(connack(v, true))
		w.ExpectBytes(rawAck(0x62, fut.PacketID()))
		w.SendBytes(rawAck(0x70, fut.PacketID()))
		synctest.Wait()
		succeeded(t, fut)
	})
}

// What the application has in its channel when Close begins is acknowledged before
// the DISCONNECT; what it has not stays with the server.
func TestCloseAcknowledgesWhatWasHandedOver(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		d, w, ch := dialSubscribed(t, v, mqtt.QoS(1), mqtt.WithBuffer(2))
		for id := range uint16(4) {
			w.SendBytes(rawPublish(v, 0x32, id+1, "t", "x"))
		}
		synctest.Wait()
		go d.conn.Close()
		for id := range uint16(2) {
			w.ExpectBytes(rawAck(0x40, id+1))
		}
		w.Expect("E0 00")
		w.Close()
		<-d.conn.Done()
		n := 0
		for range ch {
			n++
		}
		if n != 2 {
			t.Errorf("%d messages in the channel, want the 2 acknowledged ones", n)
		}
	})
}

// The server may finish a QoS 2 exchange before the DISCONNECT of Close and of
// Reconnect, so that nothing of it is left in the session; one that does not is
// waited for half of the time.
func TestQoS2ExchangesFinishBeforeDisconnect(t *testing.T) {
	for _, end := range []func(c *mqtt.Conn) error{(*mqtt.Conn).Close, (*mqtt.Conn).Reconnect} {
		for _, answers := range []bool{true, false} {
			inEachVersion(t, func(t *testing.T, v mqtt.Version) {
				d, w, ch := dialSubscribed(t, v, mqtt.QoS(2))
				w.SendBytes(rawPublish(v, 0x34, 1, "t", "x"))
				<-ch
				start := time.Now()
				go end(d.conn)
				w.ExpectBytes(rawAck(0x50, 1))
				wait := 500 * time.Millisecond
				if answers {
					w.SendBytes(rawAck(0x62, 1))
					w.ExpectBytes(rawAck(0x70, 1))
					wait = 0
				}
				w.Expect("E0 00")
				wantAfter(t, "DISCONNECT", start, wait)
				w.Close()
			})
		}
	}
}

// An Ack that cannot be sent any more says so.
func TestAckAfterDisconnectIsErrClosed(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		d, w, ch := dialSubscribed(t, v, mqtt.QoS(1), mqtt.WithManualAck())
		w.SendBytes(rawPublish(v, 0x32, 1, "t", "x"))
		w.SendBytes(rawPublish(v, 0x32, 2, "t", "y"))
		first, second := <-ch, <-ch
		if err := first.Ack(); err != nil {
			t.Errorf("in time: %v", err)
		}
		w.ExpectBytes(rawAck(0x40, 1))
		go d.conn.Close()
		w.Expect("E0 00")
		wantErr(t, "too late", second.Ack(), mqtt.ErrClosed)
		w.Close()
		<-d.conn.Done()
	})
}

// Of a caller's time the last quarter, 1 s at most, is kept for the last words.
func TestTimeKeptForTheLastWords(t *testing.T) {
	ends := map[string]struct {
		within time.Duration // a message is pending: the end takes all of it
		last   time.Duration // DISCONNECT leaves so long before
		end    func(c *mqtt.Conn, ctx context.Context, stop func()) error
	}{
		"Close": {5 * time.Second, time.Second, func(c *mqtt.Conn, _ context.Context, _ func()) error { return c.Close() }},
		"the end of Connect's context": {time.Second, 250 * time.Millisecond, func(c *mqtt.Conn, _ context.Context, stop func()) error {
			stop()
			<-c.Done()
			return context.DeadlineExceeded
		}},
		"Disconnect": {2 * time.Second, 500 * time.Millisecond, func(c *mqtt.Conn, ctx context.Context, _ func()) error { return c.Disconnect(ctx) }},
		"Drain":      {8 * time.Second, time.Second, func(c *mqtt.Conn, ctx context.Context, _ func()) error { return c.Drain(ctx) }},
	}
	for name, e := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				scope, stop := context.WithCancel(t.Context())
				defer stop()
				d := dialURL(t, scope, "mqtt://server")
				w := d.up(server.Connack)
				d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
				w.ExpectPacket()
				ctx, cancel := context.WithTimeout(t.Context(), e.within)
				defer cancel()
				start := time.Now()
				done := make(chan error, 1)
				go func() { done <- e.end(d.conn, ctx, stop) }()
				w.Expect("E0 00")
				if at := time.Since(start); at != e.within-e.last {
					t.Errorf("DISCONNECT after %v, want %v", at, e.within-e.last)
				}
				wantErr(t, name, <-done, context.DeadlineExceeded)
				if took := time.Since(start); took != e.within {
					t.Errorf("took %v, want %v", took, e.within)
				}
			})
		})
	}
}

// Behind a DISCONNECT that says what the server did wrong the client reads on,
// for 500 ms at most, and throws away what comes.
func TestFaultIsReadByTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w := d.up(server.Connack)
		start := time.Now()
		w.Send("C0 00") // PINGREQ from a server
		w.Expect("E0 01 82")
		w.SendBytes(rawPublish(mqtt.V5, 0x32, 1, "t", "x"))
		w.ExpectEOF()
		if at := time.Since(start); at != 250*time.Millisecond {
			t.Errorf("FIN after %v, want 250 ms", at)
		}
		d.ExpectNoDial(249 * time.Millisecond)
		d.Accept(t.Context())
	})
}

// A server that floods behind the DISCONNECT is read for 1 MiB.
func TestFloodBehindFaultEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithBackoff(steady(0)))
		w := d.up(server.Connack)
		start := time.Now()
		w.Send("C0 00")
		w.Expect("E0 01 82")
		go func() {
			for {
				if _, err := w.Conn().Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}()
		d.Accept(t.Context())
		if took := time.Since(start); took != 0 {
			t.Errorf("the next connection after %v", took)
		}
	})
}

// The connection that makes a 3.x server forget a session is left in order too.
func TestFreshStartWaitsForTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V311), mqtt.WithSession(time.Hour), mqtt.WithFreshStart())
		w, _ := d.accept(server.Connack3)
		w.Expect("E0 00")
		d.ExpectNoDial(400 * time.Millisecond)
		w.Close()
		d.Accept(t.Context())
	})
}

// closeAfterWrite closes a Conn when the first write, the CONNECT, is at the peer and has not
// returned yet.
type closeAfterWrite struct {
	net.Conn
	once  sync.Once
	close func()
}

func (c *closeAfterWrite) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.once.Do(c.close)
	return n, err
}

// The same when the write of CONNECT returns only after the Conn has begun to close.
func TestCloseDuringTheWriteOfConnectSaysDisconnect(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		network := &server.Network{}
		peer := server.NewPeer(t, network)
		made := make(chan *mqtt.Conn, 1)
		dial := func(ctx context.Context, family, address string) (net.Conn, error) {
			nc, err := network.Dial(ctx, family, address)
			if err != nil {
				return nil, err
			}
			return &closeAfterWrite{Conn: nc, close: func() {
				conn := <-made
				go conn.Close()
				synctest.Wait()
			}}, nil
		}
		conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithVersions(v), mqtt.WithDialer(dial), mqtt.WithClientID("c"),
			mqtt.WithFirstConnect(mqtt.FirstConnectBackground), mqtt.WithWill(mqtt.Will{Message: mqtt.Message{Topic: "will"}}))
		if err != nil {
			t.Fatal(err)
		}
		made <- conn
		w := peer.Accept(t.Context())
		w.ExpectPacket() // CONNECT
		w.Expect("E0 00")
		w.Close()
		<-conn.Done()
	})
}

// A Conn that is closed while CONNACK is on its way says DISCONNECT, or the server
// would publish the will.
func TestCloseDuringHandshakeSaysDisconnect(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		d := dial(t, mqtt.WithVersions(v), mqtt.WithWill(mqtt.Will{Message: mqtt.Message{Topic: "will"}}))
		w := d.Accept(t.Context())
		w.ExpectPacket() // CONNECT
		go d.conn.Close()
		w.Expect("E0 00")
		w.Close()
		<-d.conn.Done()
	})
}
