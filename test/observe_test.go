package mqtt_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// The credentials function is called with a context before every attempt,
// may change user, password and URL, and its error is a failed attempt.
func TestCredentialsFunctionPerAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		f := func(ctx context.Context) (mqtt.Credentials, error) {
			calls++
			if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > 10*time.Second {
				t.Error("the context has not the deadline of the attempt")
			}
			if calls == 2 {
				return mqtt.Credentials{}, errors.New("vault is sealed")
			}
			c := mqtt.Credentials{Username: str(fmt.Sprint("u", calls)), Password: []byte("pw")}
			if calls == 4 {
				c.URL = "mqtt://other"
			}
			return c, nil
		}
		d := dial(t, mqtt.WithCredentialsFunc(f), mqtt.WithVersions(mqtt.V311))
		w, first := d.accept(server.Connack3)
		if !bytes.HasSuffix(first, []byte("u1\x00\x02pw")) {
			t.Errorf("the first CONNECT is % X", first)
		}
		synctest.Wait()
		w.Cut()
		await[mqtt.Disconnected](t, d.conn.Events())
		await[mqtt.Retrying](t, d.conn.Events())
		ev := await[mqtt.Retrying](t, d.conn.Events())
		if e, ok := errors.AsType[*mqtt.ConnectError](ev.Err); !ok || e.Step != "credentials" || !containsText(ev.Err, "sealed") {
			t.Errorf("got %v, want the function's error at the step credentials", ev.Err)
		}
		w, third := d.accept(server.Connack3)
		if !bytes.HasSuffix(third, []byte("u3\x00\x02pw")) {
			t.Errorf("the third CONNECT is % X", third)
		}
		synctest.Wait()
		w.Cut()
		d.up(server.Connack3)
		await[mqtt.Connected](t, d.conn.Events())
		if ev := await[mqtt.Connected](t, d.conn.Events()); !strings.Contains(ev.Server, "other") {
			t.Errorf("connected to %s, want the URL of the function", ev.Server)
		}
	})
}

// logBuffer is a log that may be written and read by several goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Secrets are in no log record, event, error or packet hook.
func TestSecretsNeverShow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const secret = "s3cret"
		var log logBuffer
		var hooked logBuffer
		d := dialURL(t, t.Context(), "mqtt://user:"+secret+"@server", mqtt.WithServers("mqtt://user:"+secret+"@second"),
			mqtt.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))),
			mqtt.WithWill(mqtt.Will{Message: mqtt.Message{Topic: "w", Payload: []byte(secret)}}),
			mqtt.WithPacketHook(func(p mqtt.PacketInfo) { fmt.Fprintf(&hooked, "%+v\n", p) }))
		_, connect := d.accept(server.ConnackBadLogin)
		if !bytes.Contains(connect, []byte(secret)) {
			t.Error("CONNECT lacks the password of the URL")
		}
		w := d.up(server.Connack)
		d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte(secret)})
		w.Cut()
		d.accept(server.ConnackBadLogin)
		d.conn.Close()
		text := log.String() + hooked.String()
		for _, ev := range drainEvents(d.conn.Events()) {
			text += fmt.Sprintf("%v %+v %#v\n", ev, ev, ev)
		}
		c := mqtt.Credentials{Password: []byte(secret)}
		text += fmt.Sprintf("%v %+v %#v %s", c, c, c, c)
		_, err := mqtt.Connect(t.Context(), "mqtt://user:"+secret+"@%zz")
		text += fmt.Sprintf("%v %+v", err, err)
		if at := strings.Index(text, secret); at >= 0 {
			t.Errorf("the secret shows: ...%s", text[max(0, at-200):at+len(secret)])
		}
		if log.String() == "" || hooked.String() == "" {
			t.Error("nothing was logged, or nothing hooked")
		}
	})
}

// Records of two Conns do not mix; each carries client identifier and link.
func TestLogsCarryClientAndLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logs [2]logBuffer
		for i := range logs {
			id := fmt.Sprint("client-", i)
			d := dial(t, mqtt.WithClientID(id), mqtt.WithLogger(slog.New(slog.NewTextHandler(&logs[i], nil))))
			d.accept(server.ConnackBusy)
			d.up(server.Connack).Cut()
			d.up(server.Connack)
			d.conn.Close()
		}
		for i := range logs {
			text := logs[i].String()
			for _, record := range strings.Split(strings.TrimSpace(text), "\n") {
				if !strings.Contains(record, fmt.Sprint("client=client-", i)) || !strings.Contains(record, "link=") {
					t.Errorf("log %d has the record %q", i, record)
				}
			}
			for _, want := range []string{"connect failed", "retrying", "connected", "disconnected", "closed", "link=2"} {
				if !strings.Contains(text, want) {
					t.Errorf("log %d lacks %q", i, want)
				}
			}
		}
	})
}

// The packet hook sees every packet in both directions.
func TestPacketHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var seen []mqtt.PacketInfo
		d := dial(t, mqtt.WithVersions(mqtt.V311), mqtt.WithSubscription("t", mqtt.QoS(2), mqtt.WithImmediateDelivery()),
			mqtt.WithKeepAlive(20*time.Second), mqtt.WithPacketHook(func(p mqtt.PacketInfo) {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, p)
			}))
		d.Timeout = time.Minute
		w := d.up(server.Connack3)
		w.Expect("82 06 0001 0001 74 02")
		w.Send("90 03 0001 02 32 06 0001 74 0007 78")
		w.Expect("40 02 0007")
		d.conn.Publish(t.Context(), mqtt.Message{Topic: "p", Payload: make([]byte, 20_000), QoS: 2})
		w.ExpectPacket()
		w.Send("50 02 0002")
		w.Expect("62 02 0002")
		w.Send("70 02 0002")
		w.Expect(server.Pingreq)
		w.Send(server.Pingresp)
		synctest.Wait()
		d.conn.Close()
		want := []mqtt.PacketInfo{
			{Sent: true, Type: codec.CONNECT, Size: 15},
			{Type: codec.CONNACK, Size: 4},
			{Sent: true, Type: codec.SUBSCRIBE, PacketID: 1, Size: 8},
			{Type: codec.SUBACK, PacketID: 1, Size: 5},
			{Type: codec.PUBLISH, PacketID: 7, QoS: 1, Size: 8},
			{Sent: true, Type: codec.PUBACK, PacketID: 7, Size: 4},
			{Sent: true, Type: codec.PUBLISH, PacketID: 2, QoS: 2, Size: 20_009},
			{Type: codec.PUBREC, PacketID: 2, Size: 4},
			{Sent: true, Type: codec.PUBREL, PacketID: 2, Size: 4},
			{Type: codec.PUBCOMP, PacketID: 2, Size: 4},
			{Sent: true, Type: codec.PINGREQ, Size: 2},
			{Type: codec.PINGRESP, Size: 2},
			{Sent: true, Type: codec.DISCONNECT, Size: 2},
		}
		mu.Lock()
		defer mu.Unlock()
		for i := range max(len(seen), len(want)) {
			if i >= len(seen) || i >= len(want) {
				t.Errorf("%d packets, want %d: %+v", len(seen), len(want), seen)
				break
			}
			want[i].Link = 1
			if !reflect.DeepEqual(seen[i], want[i]) {
				t.Errorf("packet %d\n got %+v\nwant %+v", i, seen[i], want[i])
			}
		}
	})
}

// The figures of a Conn.
func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V5), mqtt.WithSession(time.Hour), mqtt.WithMaxInflight(1), mqtt.WithQueue(3, 0, mqtt.QueueDropOldest),
			mqtt.WithKeepAlive(20*time.Second), mqtt.WithPingTimeout(10*time.Second), mqtt.WithSubscription("s", mqtt.WithManualAck(), mqtt.WithImmediateDelivery()))
		d.Timeout = time.Minute
		w := d.up(server.Connack)
		w.ExpectPacket()
		w.Send("90 04 0001 00 01")
		w.Send("32 06 0001 73 0001 00 32 06 0001 78 0002 00")
		for range 5 {
			d.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: make([]byte, 9), QoS: 1})
		}
		w.Expect("32 0F 0001 74 0002 00 000000000000000000")
		w.Expect(server.Pingreq)
		time.Sleep(40 * time.Millisecond)
		w.Send(server.Pingresp)
		synctest.Wait()
		s := d.conn.Stats()
		if s.Links != 1 || s.Published != 5 || s.Inflight != 1 || s.Queued != 3 || s.QueuedBytes != 30 || s.DroppedOut != 2 ||
			s.Received != 2 || s.Unmatched != 1 || s.AcksOwed != 2 || s.RTT != 40*time.Millisecond || s.OldestUnacked != 18*time.Second+40*time.Millisecond {
			t.Errorf("%+v", s)
		}
		w.Cut()
		w = d.up(server.ConnackPresent)
		w.Expect("3A 0F 0001 74 0002 00 000000000000000000")
		w.Send("3A 06 0001 73 0001 00")
		synctest.Wait()
		if s := d.conn.Stats(); s.Links != 2 || s.Resent != 1 || s.Redelivered != 1 {
			t.Errorf("after a resume: %+v", s)
		}
	})
}
