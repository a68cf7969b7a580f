package mqtt_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// TestB50_SRVTargetsAreTriedInOrder: a domain's first target refuses the client,
// the second takes it.
func TestB50_SRVTargetsAreTriedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network server.Network
		first := listen(t, &network, "one.example:1884")
		go func() { // ends when the listener closes
			for {
				c, err := first.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
		second := server.New(server.Config{})
		go second.Serve(listen(t, &network, "two.example:1885"))
		defer second.Close()
		defer first.Close()

		conn, err := mqtt.Connect(t.Context(), "mqtt+srv://example", mqtt.WithDialer(network.Dial),
			mqtt.WithSRVLookup(func(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
				if service != "mqtt" || proto != "tcp" || name != "example" {
					t.Errorf("looked up _%s._%s.%s", service, proto, name)
				}
				return "", []*net.SRV{{Target: "one.example.", Port: 1884}, {Target: "two.example.", Port: 1885}}, nil
			}))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := network.Dials(); got != 2 {
			t.Errorf("%d dials, want one to each target", got)
		}
	})
}

func listen(t *testing.T, n *server.Network, addr string) net.Listener {
	t.Helper()
	l, err := n.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
