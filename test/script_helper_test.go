package mqtt_test

import (
	"context"
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/mqtttest/server"
)

// versions are the protocol versions that flows are tested in.
var versions = []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5}

// inEachVersion runs test in a bubble of its own for every protocol version.
func inEachVersion(t *testing.T, test func(t *testing.T, v mqtt.Version)) {
	for _, v := range versions {
		t.Run(v.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, v) })
		})
	}
}

// scripted is a Conn whose server is the test, byte by byte.
type scripted struct {
	*server.Wire // the current connection
	t            *testing.T
	v            mqtt.Version
	net          *server.Network
	peer         *server.Peer
	conn         *mqtt.Conn
}

// script connects a Conn to a scripted peer in version v, with a session that is
// not kept. It belongs in a bubble.
func script(t *testing.T, v mqtt.Version, opts ...mqtt.ConnectOption) *scripted {
	t.Helper()
	return scriptWith(t, v, connack(v, false), opts...)
}

// scriptWith is script with a CONNACK given in hex.
func scriptWith(t *testing.T, v mqtt.Version, ack string, opts ...mqtt.ConnectOption) *scripted {
	t.Helper()
	s := &scripted{t: t, v: v, net: &server.Network{}}
	s.peer = server.NewPeer(t, s.net)
	opts = append([]mqtt.ConnectOption{
		mqtt.WithClientID("c"), mqtt.WithVersions(v), mqtt.WithDialer(s.net.Dial), mqtt.WithKeepAlive(-1),
		mqtt.WithFirstConnect(mqtt.FirstConnectBackground), mqtt.WithBackoff(steady(time.Second)),
	}, opts...)
	conn, err := mqtt.Connect(t.Context(), "mqtt://server", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Abort() })
	s.conn = conn
	s.next(ack)
	return s
}

// next takes the client's next connection and answers CONNECT by ack, in hex.
func (s *scripted) next(ack string) {
	s.t.Helper()
	s.Wire = s.peer.Accept(s.t.Context())
	s.Handshake(ack)
	synctest.Wait()
}

// recut breaks the connection once it has lived long enough not to make its
// messages suspect, and takes the next one.
func (s *scripted) recut(ack string) {
	s.t.Helper()
	time.Sleep(2 * time.Second)
	s.Cut()
	s.next(ack)
}

// expectPublish expects a PUBLISH; head is its first byte.
func (s *scripted) expectPublish(head byte, id uint16, topic, payload string) {
	s.t.Helper()
	s.ExpectBytes(rawPublish(s.v, head, id, topic, payload))
}

// sendAck sends a PUBACK (0x40), PUBREC (0x50), PUBREL (0x62) or PUBCOMP (0x70).
func (s *scripted) sendAck(head byte, id uint16) {
	s.t.Helper()
	s.SendBytes(rawAck(head, id))
	synctest.Wait()
}

// steady is a backoff that always waits the same time.
type steady time.Duration

// Delay implements backoff.Policy.
func (d steady) Delay(backoff.Attempt) (time.Duration, bool) { return time.Duration(d), true }

// connack is an accepting CONNACK without properties.
func connack(v mqtt.Version, present bool) string {
	switch {
	case v == mqtt.V5 && present:
		return server.ConnackPresent
	case v == mqtt.V5:
		return server.Connack
	case v == mqtt.V311 && present:
		return server.Connack3Present
	}
	return server.Connack3
}

// rawPublish makes a PUBLISH without properties, by no codec.
func rawPublish(v mqtt.Version, head byte, id uint16, topic, payload string) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(topic)))
	body = append(body, topic...)
	if head&6 != 0 {
		body = binary.BigEndian.AppendUint16(body, id)
	}
	if v == mqtt.V5 {
		body = append(body, 0)
	}
	body = append(body, payload...)
	b := []byte{head}
	for n := len(body); ; {
		d := byte(n & 0x7F)
		if n >>= 7; n == 0 {
			b = append(b, d)
			break
		}
		b = append(b, d|0x80)
	}
	return append(b, body...)
}

// rawAck makes an acknowledgement in its short form.
func rawAck(head byte, id uint16) []byte { return []byte{head, 2, byte(id >> 8), byte(id)} }

// serve starts an in-memory server and connects a Conn to it. It belongs in a
// bubble; the end of the test checks that the client broke no rule.
func serve(t *testing.T, v mqtt.Version, cfg server.Config, opts ...mqtt.ConnectOption) (*mqtt.Conn, *server.Server, *server.Network) {
	t.Helper()
	network := &server.Network{}
	srv := server.Start(network, cfg)
	opts = append([]mqtt.ConnectOption{
		mqtt.WithClientID("c"), mqtt.WithVersions(v), mqtt.WithDialer(network.Dial), mqtt.WithBackoff(steady(time.Second)),
	}, opts...)
	conn, err := mqtt.Connect(t.Context(), "mqtt://server", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		srv.Close()
		for _, v := range srv.Violations() {
			t.Error(v)
		}
	})
	return conn, srv, network
}

// eventually waits, in virtual time, until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 10_000 {
		synctest.Wait()
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not within 100 s: %s", what)
}

// pending fails the test unless f is unresolved.
func pending(t *testing.T, f *mqtt.Future) {
	t.Helper()
	synctest.Wait()
	if err := f.Err(); err != mqtt.ErrPending {
		t.Fatalf("the Future resolved too early: %v", err)
	}
}

// succeeded fails the test unless f resolves with nil.
func succeeded(t *testing.T, f *mqtt.Future) {
	t.Helper()
	if err := outcome(t, f); err != nil {
		t.Fatalf("publish failed: %v", err)
	}
}

// outcome waits for f. The bound keeps virtual time from running on for ever.
func outcome(t *testing.T, f *mqtt.Future) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	return f.Wait(ctx)
}

// flush waits until everything that conn accepted is resolved.
func flush(t *testing.T, conn *mqtt.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if err := conn.Flush(ctx); err != nil {
		t.Fatalf("flush: %v", err)
	}
}

// finishPublish answers a PUBLISH as the protocol wants.
func (s *scripted) finishPublish(qos byte, id uint16) {
	s.t.Helper()
	if qos == 1 {
		s.sendAck(0x40, id)
		return
	}
	s.sendAck(0x50, id)
	s.ExpectBytes(rawAck(0x62, id))
	s.sendAck(0x70, id)
}

// release ends the exchange of an inbound message of QoS 2: PUBREL, and its PUBCOMP.
func (s *scripted) release(id uint16) {
	s.t.Helper()
	s.sendAck(0x62, id)
	s.ExpectBytes(rawAck(0x70, id))
}
