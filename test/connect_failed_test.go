package mqtt_test

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/millrace/mqtt"
)

// A Connect that fails at once ended the watch on its context before it was
// set, which the race detector saw.
func TestConnectThatFailsAtOnceDoesNotRace(t *testing.T) {
	refuse := func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
	for range 20 {
		_, err := mqtt.Connect(t.Context(), "mqtt://nowhere", mqtt.WithDialer(refuse))
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("got %v, want ECONNREFUSED", err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if _, err := mqtt.Connect(ended, "mqtt://nowhere", mqtt.WithDialer(refuse)); err == nil {
			t.Fatal("Connect with a context that has ended succeeded")
		}
	}
}
