package mqtt_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/internal/sendqueue"
)

// slowSchemes are the transports that each test of a slow line takes.
func slowSchemes() []string {
	if chance.Long() {
		return []string{"mqtt", "mqtts", "ws", "wss"}
	}
	return []string{"mqtt", "wss"}
}

// connectSlow connects to a slow peer with a keep alive and a ping timeout of 1 s.
func connectSlow(t *testing.T, url string, opts ...mqtt.ConnectOption) *mqtt.Conn {
	t.Helper()
	opts = append([]mqtt.ConnectOption{
		mqtt.WithVersions(mqtt.V311),
		mqtt.WithKeepAlive(time.Second), mqtt.WithPingTimeout(time.Second), mqtt.WithBackoff(steady(time.Hour)),
	}, opts...)
	if strings.HasPrefix(url, "wss:") {
		opts = append(opts, mqtt.WithTLS(&tls.Config{InsecureSkipVerify: true}))
	}
	conn, err := mqtt.Connect(t.Context(), url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Abort)
	return conn
}

// A message that takes longer than the ping timeout and the ack timeout on a slow
// line gets through on one link, though the pings stand behind it in the kernel:
// what the peer's TCP takes of it is life.
func TestLargeMessageOnASlowLine(t *testing.T) {
	for _, scheme := range slowSchemes() {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			p, url := newSlowPeer(t, scheme, func(p *slowPeer) { p.rate = 300 << 10 })
			var socket net.Conn
			dial := func(ctx context.Context, network, address string) (_ net.Conn, err error) {
				socket, err = new(net.Dialer).DialContext(ctx, network, address)
				return socket, err
			}
			conn := connectSlow(t, url, mqtt.WithDialer(dial), mqtt.WithPingTimeout(2*time.Second), mqtt.WithAckTimeout(2*time.Second))
			if sendqueue.Of(socket) == nil {
				t.Skip("this system, or its emulation, does not say what the peer's TCP has taken")
			}
			fut := conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: make([]byte, 1<<20), QoS: 1})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := fut.Wait(ctx); err != nil {
				t.Errorf("publish: %v", err)
			}
			for _, ev := range drainEvents(conn.Events()) {
				if ev, down := ev.(mqtt.Disconnected); down {
					t.Errorf("the link ended: %v", ev.Err)
				}
			}
			if links, copies := p.links.Load(), p.publishes.Load(); links != 1 || copies != 1 {
				t.Errorf("%d links and %d copies of the message, want one each", links, copies)
			}
		})
	}
}

// foundDead fails the test unless the link dies of want, a missing answer. That it is
// found at all is the point; the bound leaves room for a busy machine.
func foundDead(t *testing.T, conn *mqtt.Conn, want error) {
	t.Helper()
	began := time.Now()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for payload := make([]byte, 4<<10); ; {
			conn.TryPublish(mqtt.Message{Topic: "t", Payload: payload})
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	defer func() { close(stop); <-done }()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case ev := <-conn.Events():
			if down, ok := ev.(mqtt.Disconnected); ok {
				wantErr(t, "Disconnected", down.Err, want)
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("found after %v, want about 2 s", took)
				}
				return
			}
		case <-timeout:
			t.Fatal("not found within 30 s")
		}
	}
}

// A server that takes every byte and says nothing is dead a ping timeout after it
// took the PINGREQ: what it takes behind it is no life. So is one that stops
// reading, when the kernel's buffers are full, also behind a dialer that shows no
// socket.
func TestDeadServerIsFoundOnRealSockets(t *testing.T) {
	hidden := mqtt.WithDialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return struct{ net.Conn }{conn}, err
	})
	takesAll := func(_ *slowPeer, in io.Reader) { _, _ = io.Copy(io.Discard, in) }
	for name, set := range map[string]func(*slowPeer){
		"takes everything":        func(p *slowPeer) { p.mute = takesAll },
		"takes everything slowly": func(p *slowPeer) { p.mute, p.rate = takesAll, 400<<10 }, // half of what is sent
		"reads nothing":           func(p *slowPeer) { p.mute = func(p *slowPeer, _ io.Reader) { <-p.over } },
	} {
		for _, scheme := range slowSchemes() {
			for socket, opts := range map[string][]mqtt.ConnectOption{"": nil, " hidden": {hidden}} {
				if socket != "" && scheme == "wss" && !chance.Long() {
					continue
				}
				t.Run(name+" "+scheme+socket, func(t *testing.T) {
					t.Parallel()
					_, url := newSlowPeer(t, scheme, set)
					foundDead(t, connectSlow(t, url, opts...), mqtt.ErrKeepAlive)
				})
			}
		}
	}
}

// A WebSocket server may ping before it answers CONNECT, and may want the pong
// first.
func TestWebSocketPingBeforeConnack(t *testing.T) {
	_, url := newSlowPeer(t, "ws", func(p *slowPeer) { p.pingFirst = true })
	connectSlow(t, url)
}

// A server that takes every byte and acknowledges nothing is found by the ack
// timeout too, without pings, whatever else is written.
func TestAckTimeoutOnRealSockets(t *testing.T) {
	_, url := newSlowPeer(t, "mqtt", func(p *slowPeer) {
		p.mute = func(_ *slowPeer, in io.Reader) { _, _ = io.Copy(io.Discard, in) }
	})
	conn := connectSlow(t, url, mqtt.WithKeepAlive(-1), mqtt.WithAckTimeout(time.Second))
	conn.TryPublish(mqtt.Message{Topic: "t", QoS: 1})
	foundDead(t, conn, context.DeadlineExceeded)
}

// A server may cut in the middle of a packet that takes longer than one and a half
// keep alives (section 3.1.2.10): the error names the option that helps.
func TestCutOfASlowPacketNamesTheKeepAlive(t *testing.T) {
	_, url := newSlowPeer(t, "mqtt", func(p *slowPeer) {
		p.mute = func(p *slowPeer, in io.Reader) {
			timer := time.NewTimer(4 * time.Second)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-p.over:
			}
		}
	})
	conn := connectSlow(t, url, mqtt.WithPingTimeout(time.Minute))
	conn.TryPublish(mqtt.Message{Topic: "t", Payload: make([]byte, 1<<20)})
	err := await[mqtt.Disconnected](t, conn.Events()).Err
	if !containsText(err, "WithKeepAlive") {
		t.Errorf("%v does not say what helps", err)
	}
	if _, network := errors.AsType[net.Error](err); !network && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v hides the network's error", err)
	}
}
