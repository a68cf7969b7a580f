package mqtt

import (
	"testing"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/transport"
)

// Without an option the keep alive that CONNECT announces, and that the link keeps
// to, is that of the server's transport; one that is given is that of every server.
func TestDefaultKeepAliveIsThatOfTheTransport(t *testing.T) {
	for raw, byDefault := range map[string]time.Duration{
		"mqtt://h": time.Minute, "mqtts://h": time.Minute, "unix:///run/s": time.Minute, "mqtt+srv://h": time.Minute,
		"ws://h": 45 * time.Second, "wss://h/mqtt": 45 * time.Second,
	} {
		for _, tt := range []struct {
			opts []ConnectOption
			want time.Duration
		}{
			{nil, byDefault},
			{[]ConnectOption{WithKeepAlive(0)}, byDefault},
			{[]ConnectOption{WithKeepAlive(time.Minute)}, time.Minute},
			{[]ConnectOption{WithKeepAlive(-1)}, 0},
		} {
			cfg, err := newConfig("ws://elsewhere", append(tt.opts, WithServers("mqtt://elsewhere"))) // a mixed list
			if err != nil {
				t.Fatal(err)
			}
			u, err := transport.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			a := &attempt{c: &Conn{session: session{cfg: cfg, reporter: newReporter(cfg.logger, "c")}}, server: u, version: V311, clean: true}
			packet, err := a.connect()
			if err != nil {
				t.Fatal(err)
			}
			var p codec.Connect
			_, _, _, head, _ := codec.ParseHeader(packet)
			if err := p.Decode(packet[head:]); err != nil {
				t.Fatal(err)
			}
			got := a.agree(&codec.Connack{}).keepAlive
			if got != tt.want || p.KeepAlive != uint16(tt.want/time.Second) {
				t.Errorf("%s: CONNECT says %d s, the link keeps to %v, want %v", raw, p.KeepAlive, got, tt.want)
			}
		}
	}
}
