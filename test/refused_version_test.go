package mqtt_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// Several places where a server may be, of which one refuses the version while the others are only
// away, do not end the Conn; when all refuse it ends.
func TestOneServerThatRefusesTheVersionDoesNotEndTheConn(t *testing.T) {
	srv := func(context.Context, string, string, string) (string, []*net.SRV, error) {
		return "", []*net.SRV{{Target: addrA, Port: 1883}, {Target: addrB, Port: 1883}}, nil
	}
	for _, tt := range []struct {
		name, url string
		opts      []mqtt.ConnectOption
	}{
		{"servers", "mqtt://" + addrA, []mqtt.ConnectOption{mqtt.WithServers("mqtt://" + addrB)}},
		{"SRV targets", "mqtt+srv://broker.test", []mqtt.ConnectOption{mqtt.WithSRVLookup(srv)}},
		{"addresses", "mqtt://broker.test", []mqtt.ConnectOption{lookup(addrA, addrB)}},
	} {
		for _, away := range []string{"refused", "cut", "unanswered", "mute", server.ConnackBusy} {
			for _, refuses := range []string{addrA, addrB} {
				t.Run(tt.name+" "+away+" "+refuses, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						n := newNamed(t, map[string]string{addrA: server.Connack, addrB: server.Connack})
						opts := append([]mqtt.ConnectOption{mqtt.WithDialer(n.dial), mqtt.WithKeepAlive(-1), mqtt.WithBackoff(steady(time.Second))}, tt.opts...)
						conn, err := mqtt.Connect(t.Context(), tt.url, opts...)
						if err != nil {
							t.Fatal(err)
						}
						defer conn.Abort()
						n.now(addrA, away)
						n.now(addrB, away)
						n.now(refuses, server.ConnackVersion3)
						n.network.CutAll()
						time.Sleep(10 * time.Minute)
						if conn.State() == mqtt.StateClosed {
							t.Fatalf("the Conn ended: %v", conn.Err())
						}
						// Those that were away come back with the same answer.
						n.now(addrA, server.ConnackVersion3)
						n.now(addrB, server.ConnackVersion3)
						select {
						case <-conn.Done():
							wantErr(t, "Err", conn.Err(), mqtt.ErrUnsupportedVersion)
						case <-time.After(time.Minute):
							t.Error("every server refuses the version, and the Conn goes on")
						}
					})
				})
			}
		}
	}
}

// The first connect fails after one round, and keeps trying where that was asked for.
func TestFirstConnectWithAServerThatRefusesTheVersion(t *testing.T) {
	opts := func(n *named) []mqtt.ConnectOption {
		return []mqtt.ConnectOption{mqtt.WithDialer(n.dial), mqtt.WithServers("mqtt://" + addrB), mqtt.WithBackoff(steady(time.Second))}
	}
	synctest.Test(t, func(t *testing.T) {
		n := newNamed(t, map[string]string{addrA: server.ConnackVersion3, addrB: "refused"})
		_, err := mqtt.Connect(t.Context(), "mqtt://"+addrA, opts(n)...)
		wantErr(t, "Connect", err, mqtt.ErrUnsupportedVersion)
		if !containsText(err, addrB) {
			t.Errorf("%v does not name the other server", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		n := newNamed(t, map[string]string{addrA: server.ConnackVersion3, addrB: server.ConnackVersion3})
		time.AfterFunc(time.Minute, func() { n.now(addrB, server.Connack) })
		conn, err := mqtt.Connect(t.Context(), "mqtt://"+addrA, append(opts(n), mqtt.WithFirstConnect(mqtt.FirstConnectRetry))...)
		if err != nil {
			t.Fatal(err)
		}
		conn.Abort()
	})
}

// The policy is asked about the whole round and may decide otherwise.
func TestErrorPolicySeesTheRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNamed(t, map[string]string{addrA: server.Connack, addrB: server.Connack})
		var seen error
		policy := func(err error) mqtt.Decision {
			if errors.Is(err, mqtt.ErrUnsupportedVersion) {
				seen = err
				return mqtt.DecideStop
			}
			return mqtt.DecideDefault
		}
		conn, err := mqtt.Connect(t.Context(), "mqtt://"+addrA, mqtt.WithDialer(n.dial), mqtt.WithServers("mqtt://"+addrB), mqtt.WithErrorPolicy(policy))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Abort()
		n.now(addrA, server.ConnackVersion3)
		n.now(addrB, "refused")
		n.network.CutAll()
		<-conn.Done()
		if conn.Err() != seen || !containsText(seen, addrA) || !containsText(seen, addrB) {
			t.Errorf("ended with %v, the policy saw %v", conn.Err(), seen)
		}
	})
}
