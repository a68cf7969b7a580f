package mqtt_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// Publishes 1..1000 from one goroutine, with three cuts: the server's first
// sights are in order, and resends come before anything new (which the server's
// own checks watch).
func TestFirstArrivalsAreInOrderOverCuts(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		for _, kept := range []bool{true, false} {
			synctest.Wait()
			opts := []mqtt.ConnectOption{mqtt.WithClientID(fmt.Sprintf("c%t", kept))}
			if kept {
				opts = append(opts, mqtt.WithSession(time.Hour))
			}
			conn, srv, network := serve(t, v, server.Config{
				OnAck: func(a server.Ack) server.Fate {
					if a.Type == codec.PUBACK {
						return server.Fate{Delay: time.Duration(a.PacketID%13) * time.Millisecond}
					}
					return server.Fate{}
				},
			}, opts...)
			const n = 1000
			for i := range n {
				conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: fmt.Append(nil, i), QoS: 1})
				if i%250 == 249 && i < n-1 {
					time.Sleep(1500*time.Millisecond + time.Duration(i)*time.Microsecond)
					for j := range 100 {
						conn.Publish(t.Context(), mqtt.Message{Topic: "other", Payload: fmt.Append(nil, i, j), QoS: 1})
					}
					time.Sleep(3 * time.Millisecond)
					network.CutAll()
				}
			}
			flush(t, conn)
			next := 0
			seen := map[string]bool{}
			for _, r := range srv.Received() {
				if r.Topic != "t" || seen[string(r.Payload)] {
					continue // published anew in a new session
				}
				seen[string(r.Payload)] = true
				if string(r.Payload) != fmt.Sprint(next) {
					t.Fatalf("message %s in the place of %d", r.Payload, next)
				}
				next++
			}
			if next != n {
				t.Errorf("%d of %d arrived", next, n)
			}
			if l := conn.Stats().Links; l != 4 {
				t.Errorf("%d links", l)
			}
		}
	})
}
