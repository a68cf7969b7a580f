package mqtt_test

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// versionOf is the protocol version that a CONNECT asks for.
func versionOf(connect []byte) byte { return connect[8] }

// A lower version is tried only on a refusal of the version, on a new
// socket within the same attempt, and stays.
func TestVersionFallback(t *testing.T) {
	for _, refusal := range []string{server.ConnackVersion3, server.ConnackVersion5, "20 02 00 84"} {
		t.Run(refusal, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dial(t)
				began := time.Now()
				w, first := d.accept(refusal)
				w2, second := d.accept(server.Connack3)
				synctest.Wait()
				if versionOf(first) != 5 || versionOf(second) != 4 || time.Since(began) != 0 {
					t.Errorf("versions %d and %d after %v, want 5 and 4 at once", versionOf(first), versionOf(second), time.Since(began))
				}
				w.ExpectEOF()
				if v := d.conn.Version(); v != mqtt.V311 {
					t.Errorf("the Conn says %v", v)
				}
				if ev := await[mqtt.Downgraded](t, d.conn.Events()); ev.What != "protocol version" || ev.From != "5.0" || ev.To != "3.1.1" {
					t.Errorf("Downgraded %+v", ev)
				}
				w2.Cut()
				if _, third := d.accept(server.Connack3); versionOf(third) != 4 {
					t.Errorf("version %d on reconnect, want the one that worked", versionOf(third))
				}
			})
		})
	}
	t.Run("no fallback", noFallback)
	t.Run("close instead of an answer", closedWithoutAnAnswer)
	t.Run("every version refused", everyVersionRefused)
}

func noFallback(t *testing.T) {
	for _, ack := range []string{server.ConnackBusy, server.ConnackForbidden, "20 02 00 05", "20 03 00 01 00"} {
		synctest.Test(t, func(t *testing.T) {
			d := dial(t)
			d.accept(ack)
			if _, second := d.accept(server.Connack); versionOf(second) != 5 {
				t.Errorf("after % s: version %d", ack, versionOf(second))
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w, _ := d.accept("")
		w.Cut()
		if _, second := d.accept(server.Connack); versionOf(second) != 5 {
			t.Errorf("after a network error: version %d", versionOf(second))
		}
	})
}

func closedWithoutAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		w, _ := d.accept("")
		w.Close()
		ev := await[mqtt.Retrying](t, d.conn.Events())
		if s := ev.Err.Error(); !strings.Contains(s, "5.0") || !strings.Contains(s, "WithDowngradeOnClose") {
			t.Errorf("the error %q names neither version nor option", s)
		}
		if _, second := d.accept(server.Connack); versionOf(second) != 5 {
			t.Errorf("version %d without the option", versionOf(second))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithDowngradeOnClose())
		w, _ := d.accept("")
		w.Close()
		if _, second := d.accept(server.Connack3); versionOf(second) != 4 {
			t.Errorf("version %d with the option", versionOf(second))
		}
	})
}

func everyVersionRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network server.Network
		srv := server.Start(&network, server.Config{Versions: []codec.Version{codec.V31}})
		defer srv.Close()
		_, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial))
		wantErr(t, "Connect", err, mqtt.ErrUnsupportedVersion)
		conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial), mqtt.WithVersions(mqtt.V5, mqtt.V311, mqtt.V31))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if v := conn.Version(); v != mqtt.V31 {
			t.Errorf("version %v, want 3.1", v)
		}
	})
}

// Several servers are one logical cluster, tried in order within a round.
func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network server.Network
		a, b := server.New(server.Config{}), server.New(server.Config{})
		lnA, _ := network.Listen("a:1883")
		lnB, _ := network.Listen("b:1883")
		go a.Serve(lnA)
		go b.Serve(lnB)
		defer a.Close()
		defer b.Close()
		down := "a:1883"
		var dialed []string
		network.OnDial(func(_ int, addr string) error {
			dialed = append(dialed, addr)
			if addr == down {
				return server.ErrUnanswered
			}
			return nil
		})
		began := time.Now()
		conn, err := mqtt.Connect(t.Context(), "mqtt://a", mqtt.WithServers("mqtt://b"), mqtt.WithDialer(network.Dial),
			mqtt.WithConnectTimeout(3*time.Second), mqtt.WithBackoff(steady(time.Second)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("B was reached after %v, want one connect timeout", took)
		}
		// The next loss starts with the server that worked last.
		b.Restart(true)
		await[mqtt.Disconnected](t, conn.Events())
		if ev := await[mqtt.Connected](t, conn.Events()); !strings.Contains(ev.Server, "b") {
			t.Errorf("connected to %s after the loss, want b", ev.Server)
		}
		down = "b:1883"
		b.Restart(true)
		await[mqtt.Disconnected](t, conn.Events())
		if ev := await[mqtt.Connected](t, conn.Events()); !strings.Contains(ev.Server, "a") {
			t.Errorf("connected to %s with b down, want a", ev.Server)
		}
		if want := []string{"a:1883", "b:1883", "b:1883", "b:1883", "a:1883"}; !slices.Equal(dialed, want) {
			t.Errorf("dialed %v, want %v", dialed, want)
		}
	})
}

// When the whole round fails, the error has each server's.
func TestFailedRoundHasTheErrorOfEachServer(t *testing.T) {
	var network server.Network
	network.RefuseDials(-1, nil)
	_, err := mqtt.Connect(t.Context(), "mqtt://a", mqtt.WithServers("mqtt://b"), mqtt.WithDialer(network.Dial))
	if err == nil || !strings.Contains(err.Error(), "mqtt://a") || !strings.Contains(err.Error(), "mqtt://b") {
		t.Errorf("got %v, want both servers named", err)
	}
	wantErr(t, "Connect", err, syscall.ECONNREFUSED)
}

// A Server Reference is in the event and is not followed.
func TestServerReferenceIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V5))
		d.up(server.Connack).Send("E0 07 9C 05 1C 0002 6232")
		ev := await[mqtt.Disconnected](t, d.conn.Events())
		if e, ok := errors.AsType[*mqtt.ReasonError](ev.Err); !ok || e.ServerReference != "b2" || e.Code != codec.UseAnotherServer {
			t.Errorf("Disconnected by %v", ev.Err)
		}
		if ev := await[mqtt.Connecting](t, d.conn.Events()); !strings.Contains(ev.Server, "server") {
			t.Errorf("the next attempt is at %s", ev.Server)
		}
	})
}
