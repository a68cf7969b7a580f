package mqtt_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// A DISCONNECT of the server ends the link and never the Conn, whatever is odd about
// it, link after link, however young; a takeover alone is final.
func TestOddDisconnectsDoNotEndTheConn(t *testing.T) {
	for _, tt := range []struct {
		name, packet string
		v            mqtt.Version
	}{
		{"code outside the table", "E0 01 42", mqtt.V5},
		{"code of CONNACK: unsupported version", "E0 01 84", mqtt.V5},
		{"code of CONNACK: bad login", "E0 01 86", mqtt.V5},
		{"normal", "E0 00", mqtt.V5},
		{"not authorized", "E0 01 87", mqtt.V5},
		{"protocol error", "E0 01 82", mqtt.V5},
		{"session expiry", "E0 07 00 05 1100000001", mqtt.V5},
		{"broken properties", "E0 03 00 05 11", mqtt.V5},
		{"wrong flags", "E1 00", mqtt.V5},
		{"3.1.1", "E0 00", mqtt.V311},
		{"3.1.1 with a code", "E0 02 8E 00", mqtt.V311},
		{"3.1", "E0 00", mqtt.V31},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := script(t, tt.v)
				for range 8 {
					s.Send(tt.packet)
					s.next(connack(tt.v, false))
				}
				if got := s.conn.State(); got != mqtt.StateConnected {
					t.Errorf("the Conn is %v: %v", got, s.conn.Err())
				}
			})
		})
	}
}

// The same protocol error ends the Conn after three links in a row that died young of
// it; links that lived well between, or as long, begin the count anew.
func TestProtocolErrorsFarApartDoNotEndTheConn(t *testing.T) {
	const bad = "20 02 00 00" // a second CONNACK
	for _, tt := range []struct {
		name  string
		play  func(s *scripted, n int)
		links int
	}{
		{"each link lived well", func(s *scripted, _ int) {
			time.Sleep(15 * time.Second)
			s.Send(bad)
		}, 12},
		{"a healthy link between", func(s *scripted, n int) {
			if n%3 == 2 {
				time.Sleep(time.Hour)
			}
			s.Send(bad)
		}, 12},
		{"another end between", func(s *scripted, n int) {
			if n%3 == 2 {
				s.Cut()
				return
			}
			s.Send(bad)
		}, 12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := script(t, mqtt.V311)
				for n := range tt.links {
					tt.play(s, n)
					s.next(connack(mqtt.V311, false))
				}
				if got := s.conn.State(); got != mqtt.StateConnected {
					t.Errorf("the Conn is %v: %v", got, s.conn.Err())
				}
			})
		})
	}
	t.Run("three young ones in a row", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := script(t, mqtt.V311)
			for n := range 3 {
				time.Sleep(9 * time.Second)
				s.Send(bad)
				if n < 2 {
					s.next(connack(mqtt.V311, false))
				}
			}
			<-s.conn.Done()
			if !containsText(s.conn.Err(), "CONNACK") {
				t.Errorf("the Conn ended with %v", s.conn.Err())
			}
		})
	})
}

// A server that answers a SUBSCRIBE by a DISCONNECT, with whatever code, has cut at it.
func TestDisconnectInAnswerToASubscribeSetsTheFilterAside(t *testing.T) {
	for _, tt := range []struct {
		name, packet string
		v            mqtt.Version
	}{
		{"not authorized", "E0 01 87", mqtt.V5},
		{"code outside the table", "E0 01 42", mqtt.V5},
		{"3.1.1", "E0 00", mqtt.V311},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := script(t, tt.v)
				sub := subscribe(t, s.conn, "x", mqtt.WithoutWaiting())
				for range 5 { // the first two died young
					s.ExpectPacket()
					s.Send(tt.packet)
					s.next(connack(tt.v, false))
				}
				s.ExpectNothing(time.Minute)
				wantErr(t, "the subscription", sub.Err(), mqtt.ErrSetAside)
				if tt.packet == "E0 01 87" {
					wantErr(t, "the subscription", sub.Err(), mqtt.ErrNotAuthorized)
				}
			})
		})
	}
	// A server that says that it is shut down, each time, accuses nothing.
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5)
		sub := subscribe(t, s.conn, "x", mqtt.WithoutWaiting())
		for range 20 {
			s.ExpectPacket()
			s.Send("E0 01 8B")
			s.next(server.Connack)
		}
		if sub.Err() != nil {
			t.Error(sub.Err())
		}
	})
}
