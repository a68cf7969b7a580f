package mqtt_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// TestSRVTargetsAreTriedInOrder: a domain's first target refuses the client,
// the second takes it.
func TestSRVTargetsAreTriedInOrder(t *testing.T) {
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

// A credentials function may name a domain: its servers are tried in the order of the records,
// within one connect timeout, also when the first is silent.
func TestCredentialsFunctionNamesADomain(t *testing.T) {
	for _, first := range []string{"mute", "refused"} {
		synctest.Test(t, func(t *testing.T) {
			n := newNamed(t, map[string]string{addrA: first, addrB: server.Connack})
			asked := 0
			conn, err := mqtt.Connect(t.Context(), "mqtt://elsewhere", mqtt.WithDialer(n.dial), mqtt.WithKeepAlive(-1),
				mqtt.WithCredentialsFunc(func(context.Context) (mqtt.Credentials, error) {
					asked++
					return mqtt.Credentials{URL: "mqtt+srv://example.com"}, nil
				}),
				mqtt.WithSRVLookup(func(context.Context, string, string, string) (string, []*net.SRV, error) {
					return "", []*net.SRV{{Target: addrA, Port: 1883}, {Target: addrB, Port: 1883}}, nil
				}))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Abort()
			if got := n.taken(); got != addrA+" "+addrB || asked != 1 {
				t.Errorf("%s: dialed %s, asked %d times", first, got, asked)
			}
		})
	}
}

// A domain of the credentials function that is not found is a failure of its look-up.
func TestCredentialsFunctionNamesADomainThatIsNotFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := mqtt.Connect(t.Context(), "mqtt://elsewhere",
			mqtt.WithCredentialsFunc(func(context.Context) (mqtt.Credentials, error) {
				return mqtt.Credentials{URL: "mqtt+srv://example.com"}, nil
			}),
			mqtt.WithSRVLookup(func(context.Context, string, string, string) (string, []*net.SRV, error) {
				return "", nil, &net.DNSError{Err: "no such host", Name: "example.com", IsNotFound: true}
			}))
		if e, ok := errors.AsType[*mqtt.ConnectError](err); !ok || e.Step != "resolve" || e.Server != "mqtt+srv://example.com" {
			t.Errorf("got %v", err)
		}
	})
}
