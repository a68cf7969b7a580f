package broker

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/integration/tape"
)

func TestMosquitto(t *testing.T) {
	b := StartMosquitto(t, MosquittoOptions{})
	want := 3 * len(Transports())
	if b.URL(WS) == "" {
		want -= 2 * 3
		t.Log("this Mosquitto has no websockets")
	}
	if got := handshakes(t, b); got != want {
		t.Errorf("%d handshakes, want %d", got, want)
	}
	refusesStrangers(t, b)
}

func TestMosquittoKeepsSessions(t *testing.T) {
	b := StartMosquitto(t, MosquittoOptions{})
	if session(t, b) {
		t.Error("session present on the first link")
	}
	b.Restart(t)
	if !session(t, b) {
		t.Error("session lost over an orderly restart")
	}
	b.Kill(t)
	b.Restart(t)
	handshake(t, b, V5, TCP)
}

func TestMosquittoOptions(t *testing.T) {
	b := StartMosquitto(t, MosquittoOptions{
		NoPersistence: true, MaxInflight: -1, MaxQueued: 10, MessageSizeLimit: 1 << 20,
		Extra: []string{"max_keepalive 120"},
	})
	session(t, b)
	b.Restart(t)
	if session(t, b) {
		t.Error("session kept without persistence")
	}
}

func TestMochi(t *testing.T) {
	b := StartMochi(t, MochiOptions{})
	if got, want := handshakes(t, b), 3*len(Transports()); got != want {
		t.Errorf("%d handshakes, want %d", got, want)
	}
	refusesStrangers(t, b)
	session(t, b)
	b.Restart(t)
	if session(t, b) {
		t.Error("mochi kept a session without a store")
	}
	b.Kill(t)
	b.Restart(t)
	handshake(t, b, V311, Unix)
}

func TestAedes(t *testing.T) {
	b := StartAedes(t)
	if got, want := handshakes(t, b), 2*len(Transports()); got != want {
		t.Errorf("%d handshakes, want %d", got, want)
	}
	refusesStrangers(t, b)
	session(t, b)
	b.Restart(t)
	if session(t, b) {
		t.Error("Aedes kept a session without a store")
	}
	b.Kill(t)
	b.Restart(t)
	handshake(t, b, V311, Unix)
}

// TestNginxStream speaks to a broker behind nginx, over what the broker offers and
// with the broker's certificates, and cuts its connections by ending nginx.
func TestNginxStream(t *testing.T) {
	b := StartMosquitto(t, MosquittoOptions{})
	n := StartNginxStream(t, b)
	if got, want := handshakes(t, n), 3*(len(b.URLs())-1); got != want {
		t.Errorf("%d handshakes, want %d", got, want)
	}
	refusesStrangers(t, n)
	if session(t, n) {
		t.Error("session present on the first link")
	}
	n.Kill(t)
	n.Restart(t)
	if !session(t, n) {
		t.Error("session of the broker lost with nginx")
	}
}

func TestEjabberd(t *testing.T) {
	b := StartEjabberd(t)
	b.Restart(t)
	b.Kill(t)
	b.Restart(t) // waits until a client may log in
	for _, transport := range []Transport{TCP, WS} {
		if !b.Supports(V5, transport) {
			t.Errorf("not offered over %s", transport)
		}
	}
}

func TestRabbitMQ(t *testing.T) {
	b := StartRabbitMQ(t)
	for _, transport := range []Transport{TCP, WS} {
		if !b.Supports(V311, transport) {
			t.Errorf("not offered over %s", transport)
		}
	}
	b.Restart(t)
}

// TestMochiTapes checks that a tape is in plain MQTT over every transport.
func TestMochiTapes(t *testing.T) {
	dir := t.TempDir()
	b := StartMochi(t, MochiOptions{Tapes: dir})
	made := handshakes(t, b)
	b.Stop(t)
	if d, err := ReadDrops(dir); err != nil || d != (Drops{}) {
		t.Errorf("%+v, %v", d, err)
	}
	tapes, err := Tapes(dir)
	if err != nil {
		t.Fatal(err)
	}
	connected, accepted := 0, 0
	for _, path := range tapes { // those of waitAccepting and of failed handshakes are empty
		err := tape.Replay(path, func(p tape.Packet) error {
			switch {
			case !p.Down && p.Frame.Type == codec.CONNECT:
				connected++
			case p.Down && p.Frame.Type == codec.CONNACK:
				accepted++
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if connected != made || accepted != made {
		t.Errorf("%d CONNECT and %d CONNACK on the tapes of %d handshakes", connected, accepted, made)
	}
}

// TestMochiTellsIdentifiersApart subscribes with the identifier that mochi gave a
// message in flight: without ownIDs it answers 0x91.
func TestMochiTellsIdentifiersApart(t *testing.T) {
	b := StartMochi(t, MochiOptions{})
	conn := dialRaw(t, b, TCP)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	for _, step := range []struct{ send, want string }{
		{connects[1].connect, "20 02 00 00"},
		{"82 06 0001 0001 73 01", "90 03 0001 01"},                                // SUBSCRIBE 1
		{"32 06 0001 73 0009 78", "40 02 0009" + "32 06 0001 73 0001 78"},         // PUBLISH 9 comes back as 1
		{"82 06 0001 0001 73 01", "90 03 0001 01"},                                // SUBSCRIBE 1 again
		{"40 02 0001" + "82 06 0007 0001 73 01" + "c0 00", "90 03 0007 01 d0 00"}, // PUBACK, and as ever
	} {
		if _, err := conn.Write(unhex(t, step.send)); err != nil {
			t.Fatal(err)
		}
		want := unhex(t, step.want)
		got := make([]byte, len(want))
		if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("after %s: % x, want % x, %v", step.send, got[:n], want, err)
		}
	}
}

func TestMochiKillCutsLinks(t *testing.T) {
	b := StartMochi(t, MochiOptions{})
	conn := dialRaw(t, b, TCP)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write(unhex(t, connects[2].connect)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 256)); err != nil {
		t.Fatal(err)
	}
	b.Kill(t)
	if rest, _ := io.ReadAll(conn); len(rest) > 0 {
		t.Errorf("a killed broker sent % x", rest)
	}
}

func TestNATS(t *testing.T) {
	for _, withTLS := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", withTLS), func(t *testing.T) {
			b := StartNATS(t, NATSOptions{TLS: withTLS, AckWait: time.Second})
			if got, want := handshakes(t, b), 2; got != want {
				t.Errorf("%d handshakes, want %d", got, want)
			}
		})
	}
}

func TestNATSKeepsSessions(t *testing.T) {
	b := StartNATS(t, NATSOptions{})
	session(t, b)
	b.Restart(t)
	if !session(t, b) {
		t.Error("session lost over a restart")
	}
}

func TestNATSCluster(t *testing.T) {
	c := StartNATSCluster(t, NATSOptions{})
	session(t, c.Node(0))
	for i := range clusterSize {
		c.KillNode(t, i)
		other := c.Node((i + 1) % clusterSize)
		if !elected(t, other) {
			t.Errorf("session lost when node %d ended", i)
		}
		c.RestartNode(t, i)
		c.WaitReady(t)
	}
}

// elected is session at a node whose cluster has just lost another: until the
// session's streams have a leader again, the node closes connections.
func elected(t *testing.T, b *Broker) bool {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		present, err := trySession(t, b)
		if err == nil {
			return present
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no session within 30 s: %v", err)
		}
	}
}

// session connects with a session that outlives its link (3.1.1, clean session
// 0) and returns session present.
func session(t *testing.T, b *Broker) bool {
	t.Helper()
	present, err := trySession(t, b)
	if err != nil {
		t.Fatal(err)
	}
	return present
}

func trySession(t *testing.T, b *Broker) (present bool, err error) {
	t.Helper()
	conn := dialRaw(t, b, TCP)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	// SUBSCRIBE s at QoS 1 too: Mosquitto saves no session without one.
	if _, err := conn.Write(unhex(t, "10 10 0004 4d515454 04 00 003c 0004 6b657074 82 06 0001 0001 73 01")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4+5)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return false, fmt.Errorf("no CONNACK and SUBACK: %w", err)
	}
	if answer[3] != 0 || answer[4] != 0x90 || answer[8] != 1 {
		t.Fatalf("refused: % x", answer)
	}
	if _, err := conn.Write(unhex(t, "e0 00")); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, conn) // until the broker has closed: it has seen DISCONNECT
	return answer[2] == 1, nil
}

// refusesStrangers dials the mutual TLS listener without a client certificate.
func refusesStrangers(t *testing.T, b *Broker) {
	t.Helper()
	stranger := &Broker{urls: map[Transport]string{TLS: b.URL(MutualTLS)}, certs: b.certs}
	conn, err := dial(t.Context(), stranger, TLS)
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = conn.Write(unhex(t, connects[1].connect))
	// TLS 1.3 tells a client of its refusal only when it reads.
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("accepted without a client certificate")
	} else if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Errorf("no answer: %v", err)
	}
}
