package mqtt_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/mqtttest/server"
)

// limited is a service that takes one CONNECT a second and turns away what comes sooner.
type limited struct {
	t       *testing.T
	network server.Network
	peer    *server.Peer
	turn    string // how: "refused", "cut", or a CONNACK in hex
	old     bool   // it speaks 3.1.1 only

	mu    sync.Mutex
	last  time.Time
	flags []byte // of the CONNECTs that were taken
	soon  int    // those that were not
}

func (l *limited) start() {
	l.peer = server.NewPeer(l.t, &l.network)
	l.peer.Timeout = time.Hour
}

// dial answers the CONNECT of the connection that it makes.
func (l *limited) dial(ctx context.Context, network, address string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	early := !l.last.IsZero() && time.Since(l.last) < time.Second
	if early && l.turn == "refused" {
		l.soon++
		return nil, syscall.ECONNREFUSED
	}
	nc, err := l.network.Dial(ctx, network, address)
	if err == nil {
		w := l.peer.Accept(ctx)
		go l.serve(w, early)
	}
	return nc, err
}

func (l *limited) serve(w *server.Wire, early bool) {
	connect := w.ExpectPacket()
	l.mu.Lock()
	switch {
	case early:
		l.soon++
	default:
		l.last = time.Now()
		l.flags = append(l.flags, connect[9])
	}
	l.mu.Unlock()
	switch {
	case early && l.turn == "cut":
		w.Close()
		return
	case early:
		w.Send(l.turn)
		return
	case l.old && connect[8] == 5:
		w.Send(server.ConnackVersion3)
		return
	}
	w.Send(server.Connack3)
	for b := make([]byte, 64); ; {
		if n, err := w.Conn().Read(b); err != nil || n > 0 && b[0] == 0xE0 {
			w.Close() // as a server does at a DISCONNECT
			return
		}
	}
}

// WithFreshStart on 3.1.1 sends two CONNECTs, and the step from 5.0 to 3.1.1 another; a service that
// takes one a second gets them a second apart.
func TestSecondConnectIsMadeAgainASecondLater(t *testing.T) {
	for _, tt := range []struct {
		name  string
		old   bool // and the Conn tries 5.0 first
		fresh bool
		took  time.Duration
		flags string // of the CONNECTs that the service took
	}{
		{"fresh start", false, true, time.Second, "\x02\x00"},
		{"from 5.0 to 3.1.1", true, false, time.Second, "\x00\x00"},
		{"both", true, true, 2 * time.Second, "\x02\x02\x00"},
	} {
		for _, turn := range []string{"refused", "cut", "20 02 00 03"} {
			t.Run(tt.name+" "+turn, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := &limited{t: t, turn: turn, old: tt.old}
					l.start()
					opts := []mqtt.ConnectOption{mqtt.WithDialer(l.dial), mqtt.WithClientID("c"), mqtt.WithSession(time.Hour), mqtt.WithKeepAlive(-1)}
					if !tt.old {
						opts = append(opts, mqtt.WithVersions(mqtt.V311))
					}
					if tt.fresh {
						opts = append(opts, mqtt.WithFreshStart())
					}
					began := time.Now()
					conn, err := mqtt.Connect(t.Context(), "mqtt://server", opts...)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Abort()
					if took := time.Since(began); took < tt.took || took > tt.took+100*time.Millisecond {
						t.Errorf("connected after %v, want %v", took, tt.took)
					}
					l.mu.Lock()
					defer l.mu.Unlock()
					if string(l.flags) != tt.flags {
						t.Errorf("the service took CONNECTs with the flags % x, want % x", l.flags, tt.flags)
					}
				})
			})
		}
	}
}

// What has another reason than haste, or no time left, fails as before.
func TestSecondConnectIsNotMadeAgainForNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		answer string
		opts   []mqtt.ConnectOption
		dials  int
	}{
		"bad login at 3.1.1":    {"20 02 00 04", nil, 2},
		"not authorized":        {"20 02 00 05", nil, 2},
		"the version once more": {server.ConnackVersion3, nil, 2},
		"no time left":          {"20 02 00 03", []mqtt.ConnectOption{mqtt.WithConnectTimeout(time.Second)}, 2},
		"again in vain":         {"20 02 00 03", nil, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var network server.Network
				peer := server.NewPeer(t, &network)
				go func() {
					peer.Accept(t.Context()).Handshake(server.ConnackVersion3)
					for range tt.dials - 1 {
						peer.Accept(t.Context()).Handshake(tt.answer)
					}
				}()
				began := time.Now()
				_, err := mqtt.Connect(t.Context(), "mqtt://server", append(tt.opts, mqtt.WithDialer(network.Dial))...)
				if n := network.Dials(); err == nil || n != tt.dials || time.Since(began) != time.Duration(tt.dials-2)*time.Second {
					t.Errorf("%d dials in %v, want %d: %v", n, time.Since(began), tt.dials, err)
				}
			})
		})
	}
}

// Reconnect is no failure: a backoff that gives up is not asked, and the next failure is the first.
func TestReconnectDoesNotCountForTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []backoff.Attempt
		d := dial(t, mqtt.WithBackoff(backoff.PolicyFunc(func(a backoff.Attempt) (time.Duration, bool) {
			seen = append(seen, a)
			return time.Second, a.N < 3
		})))
		w := d.up(server.Connack)
		for range 10 {
			d.conn.Reconnect()
			w = d.up(server.Connack)
		}
		w.Cut()
		d.up(server.Connack)
		if len(seen) != 1 || seen[0].N != 1 || !errors.Is(seen[0].Err, syscall.ECONNRESET) {
			t.Errorf("the policy saw %+v, want the cut alone", seen)
		}
		for _, ev := range drainEvents(d.conn.Events()) {
			if r, ok := ev.(mqtt.Retrying); ok && !errors.Is(r.Err, syscall.ECONNRESET) {
				t.Errorf("Retrying for %v", r.Err)
			}
		}
	})
}

// A link that dies before it could be ended is reconnected at once all the same: that was asked for.
func TestReconnectOfALinkThatIsDying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithBackoff(steady(time.Hour)))
		for range 3 {
			w := d.up(server.Connack)
			began := time.Now()
			w.Cut()
			d.conn.Reconnect()
			d.up(server.Connack)
			if took := time.Since(began); took > time.Second {
				t.Errorf("reconnected after %v", took)
			}
			d.conn.Reconnect() // in order this time
		}
		w := d.up(server.Connack)
		w.Cut()
		d.ExpectNoDial(time.Minute) // no shortcut is left
	})
}

// Closing does not wait for the second in which an attempt pauses.
func TestCloseInThePauseOfAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		d.accept(server.ConnackVersion3)
		d.accept("20 02 00 03")
		synctest.Wait()
		within(t, 100*time.Millisecond, "Close", func() { d.conn.Close() })
		d.ExpectNoDial(time.Minute)
	})
}
