package mqtt_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// Refusals on 3.x by codes that only MQTT 5 has, as ejabberd sends them.

// in3 runs test once on 3.1 and once on 3.1.1.
func in3(t *testing.T, test func(t *testing.T, v mqtt.Version)) {
	t.Helper()
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		if v == mqtt.V5 {
			t.Skip("of 3.x")
		}
		test(t, v)
	})
}

// A 3.x server that refuses one filter by a code of its own ends neither the link
// nor the subscriptions beside it.
func TestSubackOf3RefusesOneFilterByAnyCode(t *testing.T) {
	for _, code := range []codec.ReasonCode{0x80, 0x87, 0x8F, 0xA2, 0xA3, 0xFF} {
		in3(t, func(t *testing.T, v mqtt.Version) {
			s := script(t, v)
			good := s.subscribed("good", 1)
			both, err := s.conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "a", QoS: 1}, {Pattern: "b", QoS: 1}},
				mqtt.WithPartialSuccess(), mqtt.WithoutWaiting())
			if err != nil {
				t.Fatal(err)
			}
			s.ExpectBytes(rawSubscribe(v, 2, 0, "a", 1, "b", 1))
			s.suback(0x90, 2, byte(code), 1)
			<-both.Ready()
			refused := both.Results()[0]
			e, ok := errors.AsType[*mqtt.ReasonError](refused.Err)
			if !ok || e.Code != code || refused.Code != code || both.Results()[1].Err != nil || both.Err() != nil {
				t.Errorf("%02x: results %+v, Err %v", byte(code), both.Results(), both.Err())
			}
			s.message(0x30, 0, "good", "x")
			s.message(0x30, 0, "b", "y")
			expect(t, good.C(), "x")
			expect(t, both.C(), "y")
			s.ExpectNothing(time.Minute)
		})
	}
}

// Subscribe alone fails with the code, and its sentinel where it has one.
func TestSubscribeOf3FailsWithTheCode(t *testing.T) {
	in3(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		failed := make(chan error, 1)
		go func() {
			_, err := s.conn.Subscribe(t.Context(), "a")
			failed <- err
		}()
		s.ExpectPacket()
		s.suback(0x90, 1, 0x87)
		err := <-failed
		if e, ok := errors.AsType[*mqtt.ReasonError](err); !ok || e.Code != codec.NotAuthorized || !errors.Is(err, mqtt.ErrNotAuthorized) {
			t.Errorf("%v", err)
		}
		s.ExpectNothing(time.Minute)
	})
}

func TestCodesOf3AreNamed(t *testing.T) {
	for _, c := range []struct {
		packet codec.Type
		code   codec.ReasonCode
		text   string
		is     error
	}{
		{codec.SUBACK, 0x80, "mqtt: SUBACK: failure (0x80)", nil},
		{codec.SUBACK, 0x87, "mqtt: SUBACK: failure, in MQTT 5.0 Not authorized (0x87)", mqtt.ErrNotAuthorized},
		{codec.SUBACK, 0x8F, "mqtt: SUBACK: failure, in MQTT 5.0 Topic Filter invalid (0x8F)", nil},
		{codec.SUBACK, 0xFE, "mqtt: SUBACK: failure (0xFE)", nil},
		{codec.CONNACK, 5, "mqtt: CONNACK: Connection refused, not authorized (0x05)", mqtt.ErrNotAuthorized},
		{codec.CONNACK, 6, "mqtt: CONNACK: reserved return code (0x06)", nil},
		{codec.CONNACK, 0x87, "mqtt: CONNACK: Connection refused, in MQTT 5.0 Not authorized (0x87)", mqtt.ErrNotAuthorized},
		{codec.CONNACK, 0x84, "mqtt: CONNACK: Connection refused, in MQTT 5.0 Unsupported Protocol Version (0x84)", mqtt.ErrUnsupportedVersion},
	} {
		for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311} {
			err := &mqtt.ReasonError{Packet: c.packet, Version: v, Code: c.code}
			if err.Error() != c.text {
				t.Errorf("%q, want %q", err, c.text)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v is not %v", err, c.is)
			}
		}
	}
}

// Below 0x80 nothing but a granted QoS has a meaning [MQTT-3.9.3-2].
func TestSubackOf3WithACodeBelow0x80EndsTheLink(t *testing.T) {
	for _, code := range []byte{0x03, 0x11, 0x7F} {
		in3(t, func(t *testing.T, v mqtt.Version) {
			s := script(t, v)
			if _, err := s.conn.Subscribe(t.Context(), "a", mqtt.WithoutWaiting()); err != nil {
				t.Fatal(err)
			}
			s.ExpectPacket()
			s.suback(0x90, 1, code)
			s.ExpectEOF()
			if p, ok := errors.AsType[*mqtt.ProtocolError](await[mqtt.Disconnected](t, s.conn.Events()).Err); !ok {
				t.Errorf("%02x: %v", code, p)
			}
		})
	}
}

// A CONNACK with a code that 3.x reserves, or has not, is a refusal like others.
func TestConnackOf3RefusesByAnyCode(t *testing.T) {
	for code, is := range map[codec.ReasonCode]error{0x06: nil, 0x80: nil, 0x85: mqtt.ErrClientIDRejected, 0x87: mqtt.ErrNotAuthorized, 0xFF: nil} {
		in3(t, func(t *testing.T, v mqtt.Version) {
			var network server.Network
			peer := server.NewPeer(t, &network)
			done := make(chan error, 1)
			go func() {
				_, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithVersions(v), mqtt.WithDialer(network.Dial))
				done <- err
			}()
			w := peer.Accept(t.Context())
			w.ExpectPacket()
			w.SendBytes([]byte{0x20, 2, 0, byte(code)})
			synctest.Wait()
			err := <-done
			e, ok := errors.AsType[*mqtt.ReasonError](err)
			if !ok || e.Packet != codec.CONNACK || e.Code != code || is != nil && !errors.Is(err, is) {
				t.Errorf("%02x: %v", byte(code), err)
			}
		})
	}
}
