package mqtt_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// What a first connect fails of can be told by type and by sentinel.
func TestConnectErrorsTellTheirCause(t *testing.T) {
	for _, tt := range []struct {
		name string
		v    mqtt.Version
		ack  string
		is   error
		code codec.ReasonCode
	}{
		{"bad credentials", mqtt.V5, server.ConnackBadLogin, mqtt.ErrBadCredentials, 0x86},
		{"not authorized", mqtt.V5, server.ConnackForbidden, mqtt.ErrNotAuthorized, 0x87},
		{"banned", mqtt.V5, "20 03 00 8A 00", mqtt.ErrBanned, 0x8A},
		{"bad client id", mqtt.V5, server.ConnackBadID, mqtt.ErrClientIDRejected, 0x85},
		{"version", mqtt.V5, server.ConnackVersion5, mqtt.ErrUnsupportedVersion, 0x84},
		{"bad credentials 3.1.1", mqtt.V311, "20 02 00 04", mqtt.ErrBadCredentials, 4},
		{"not authorized 3.1.1", mqtt.V311, "20 02 00 05", mqtt.ErrNotAuthorized, 5},
		{"bad client id 3.1", mqtt.V31, "20 02 00 02", mqtt.ErrClientIDRejected, 2},
		{"version 3.1.1", mqtt.V311, server.ConnackVersion3, mqtt.ErrUnsupportedVersion, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var network server.Network
				peer := server.NewPeer(t, &network)
				go func() { peer.Accept(t.Context()).Handshake(tt.ack) }()
				_, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial), mqtt.WithVersions(tt.v))
				wantErr(t, "Connect", err, tt.is)
				if e, ok := errors.AsType[*mqtt.ReasonError](err); !ok || e.Code != tt.code || e.Packet != codec.CONNACK {
					t.Errorf("got %v, want the code of the CONNACK", err)
				}
				if e, ok := errors.AsType[*mqtt.ConnectError](err); !ok || e.Step != "CONNACK" || e.Server != "mqtt://server" && e.Server != "mqtt://server:1883" {
					t.Errorf("got %#v, want a ConnectError at CONNACK", err)
				}
				if n := network.Dials(); n != 1 {
					t.Errorf("%d dials, want 1", n)
				}
			})
		})
	}
	t.Run("reason string and server reference", connectRefusedWithReason)
	t.Run("dial", connectWithoutAnAnswerToTheDial)
	t.Run("certificate", connectToAnUnknownAuthority)
}

func connectRefusedWithReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network server.Network
		peer := server.NewPeer(t, &network)
		go func() { peer.Accept(t.Context()).Handshake("20 0D 00 9D 0A 1F 0002 6E6F 1C 0002 6232") }()
		_, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial))
		if e, ok := errors.AsType[*mqtt.ReasonError](err); !ok || e.Reason != "no" || e.ServerReference != "b2" {
			t.Errorf("got %v, want reason string and server reference", err)
		}
		if s := err.Error(); !strings.Contains(s, "b2") || !strings.Contains(s, "no") {
			t.Errorf("the text %q lacks what the server said", s)
		}
	})
}

func connectWithoutAnAnswerToTheDial(t *testing.T) {
	var network server.Network
	network.RefuseDials(-1, nil)
	_, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial))
	wantErr(t, "Connect", err, syscall.ECONNREFUSED)
	if e, ok := errors.AsType[*mqtt.ConnectError](err); !ok || e.Step != "dial" {
		t.Errorf("got %v, want a ConnectError at dial", err)
	}
}

func connectToAnUnknownAuthority(t *testing.T) {
	var network server.Network
	ln, err := network.Listen("server:8883")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		io.ReadAll(tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}))
	}()
	_, err = mqtt.Connect(t.Context(), "mqtts://server", mqtt.WithDialer(network.Dial))
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("got %v, want an x509.UnknownAuthorityError", err)
	}
	if e, ok := errors.AsType[*mqtt.ConnectError](err); !ok || e.Step != "tls" {
		t.Errorf("got %v, want a ConnectError at tls", err)
	}
}

// The modes of the first connect.
func TestFirstConnectModes(t *testing.T) {
	t.Run("retry", firstConnectRetries)
	t.Run("retry until the context ends", firstConnectUntilTheContextEnds)
	t.Run("background", firstConnectInTheBackground)
	t.Run("policy", firstConnectByPolicy)
	t.Run("after the first success refusals are retried", refusalsAfterTheFirstSuccess)
	t.Run("a refused version ends the Conn after the first success", refusedVersionAfterTheFirstSuccess)
}

func firstConnectRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network server.Network
		srv := server.Start(&network, server.Config{})
		defer srv.Close()
		network.RefuseDials(3, nil)
		conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial),
			mqtt.WithFirstConnect(mqtt.FirstConnectRetry), mqtt.WithBackoff(steady(time.Second)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if n := network.Dials(); n != 4 || conn.State() != mqtt.StateConnected {
			t.Errorf("%d dials and state %v, want 4 and connected", n, conn.State())
		}
	})
}

func firstConnectUntilTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network server.Network
		network.RefuseDials(-1, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := mqtt.Connect(ctx, "mqtt://server", mqtt.WithDialer(network.Dial), mqtt.WithFirstConnect(mqtt.FirstConnectRetry))
		wantErr(t, "Connect", err, context.DeadlineExceeded)
		if !strings.Contains(err.Error(), "WithConnectTimeout") {
			t.Errorf("%q does not name the option for the dial", err)
		}
	})
}

func firstConnectInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		if s := d.conn.State(); s != mqtt.StateConnecting {
			t.Errorf("state %v at once, want connecting", s)
		}
		fut := d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		wantErr(t, "QoS 0 without a link", d.conn.Publish(t.Context(), mqtt.Message{Topic: "t"}).Err(), mqtt.ErrNotConnected)
		w := d.up(server.Connack)
		w.Expect("32 06 0001 74 0001 00")
		w.Send("40 02 0001")
		succeeded(t, fut)
	})
}

func firstConnectByPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []error
		policy := func(err error) mqtt.Decision {
			seen = append(seen, err)
			switch {
			case errors.Is(err, mqtt.ErrBadCredentials):
				return mqtt.DecideStop
			case errors.Is(err, mqtt.ErrTakenOver):
				return mqtt.DecideRetry
			}
			return mqtt.DecideDefault
		}
		d := dial(t, mqtt.WithErrorPolicy(policy))
		d.up(server.Connack).Send(server.DisconnectTaken)
		w := d.up(server.Connack) // in spite of the default
		w.Cut()
		d.accept(server.ConnackBadLogin)
		<-d.conn.Done()
		wantErr(t, "Err", d.conn.Err(), mqtt.ErrBadCredentials)
		if len(seen) != 3 {
			t.Errorf("the policy saw %v", seen)
		}
	})
}

func refusalsAfterTheFirstSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		d.up(server.Connack).Cut()
		d.accept(server.ConnackForbidden)
		d.accept(server.ConnackBadLogin)
		d.up(server.Connack)
		if s := d.conn.State(); s != mqtt.StateConnected {
			t.Errorf("state %v, want connected", s)
		}
	})
}

func refusedVersionAfterTheFirstSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t)
		d.up(server.Connack).Cut()
		d.accept(server.ConnackVersion5)
		<-d.conn.Done()
		wantErr(t, "Err", d.conn.Err(), mqtt.ErrUnsupportedVersion)
	})
}
