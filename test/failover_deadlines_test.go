package mqtt_test

import (
	"bufio"
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// Each server of a list has a connect timeout of its own, wherever those
// before it stall, and the one that is up is reached within the round.
func TestEachServerHasItsOwnDeadline(t *testing.T) {
	for _, tt := range stalls {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := &server.Network{}
				if tt.play == nil { // before the first dial
					network.OnDial(func(_ int, addr string) error {
						if strings.HasPrefix(addr, "up:") {
							return nil
						}
						return server.ErrUnanswered
					})
				}
				peer := server.NewPeer(t, network)
				d := dialList(t, tt.url, append(slices.Clone(tt.opts), mqtt.WithDialer(network.Dial))...)
				d.Peer = peer
				if tt.play != nil {
					tt.play(d.Accept(t.Context()))
					tt.play(d.Accept(t.Context()))
				}
				w := d.Accept(t.Context())
				if tt.step == "proxy" {
					openTunnel(t, w)
				}
				w.Handshake(server.Connack)
				d.expectRound(0, listTimeout, 2*listTimeout)
			})
		})
	}
	t.Run("credentials", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			d := dialList(t, "mqtt://server", mqtt.WithCredentialsFunc(func(ctx context.Context) (mqtt.Credentials, error) {
				if calls++; calls <= 2 {
					<-ctx.Done()
				}
				return mqtt.Credentials{}, ctx.Err()
			}))
			d.up(server.Connack)
			// Connecting is told when there is something to connect with.
			d.expectRound(2 * listTimeout)
		})
	})
}

// listTimeout is the connect timeout of dialList. Three of them are below what
// a Peer waits for a connection.
const listTimeout = 3 * time.Second

// dialList is dialURL for the server at url, a second one like it, and "up".
func dialList(t *testing.T, url string, opts ...mqtt.ConnectOption) *dialed {
	t.Helper()
	second := strings.Replace(url, "server", "second", 1)
	return dialURL(t, t.Context(), url, append(slices.Clone(opts),
		mqtt.WithServers(second, "mqtt://up"), mqtt.WithConnectTimeout(listTimeout))...)
}

// expectRound expects that the Conn, made two connect timeouts ago, is connected
// to "up" by the last of attempts that began at these times in one round.
func (d *dialed) expectRound(attempts ...time.Duration) {
	d.t.Helper()
	synctest.Wait()
	if state := d.conn.State(); state != mqtt.StateConnected {
		d.t.Fatalf("%s after two connect timeouts, want connected", state)
	}
	began := time.Now().Add(-2 * listTimeout)
	var got []time.Duration
	for {
		switch ev := (<-d.conn.Events()).(type) {
		case mqtt.Connecting:
			got = append(got, ev.Time.Sub(began))
		case mqtt.Connected:
			if !slices.Equal(got, attempts) || ev.Server != "mqtt://up:1883" {
				d.t.Errorf("connected to %s after attempts at %v, want %v", ev.Server, got, attempts)
			}
			return
		default: // Retrying would end the round
			d.t.Fatalf("%T %+v within the round", ev, ev)
		}
	}
}

// openTunnel answers the CONNECT of an HTTP proxy's client.
func openTunnel(t *testing.T, w *server.Wire) {
	t.Helper()
	req, err := http.ReadRequest(bufio.NewReaderSize(w.Conn(), 16))
	if err != nil || req.Method != http.MethodConnect {
		t.Fatalf("the proxy got %v, %v", req, err)
	}
	w.SendBytes([]byte("HTTP/1.1 200 OK\r\n\r\n"))
}
