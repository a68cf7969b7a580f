package broker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	// Ports are taken from below the range the kernel gives to outgoing
	// connections (32768 and up on Linux): a client that redials a stopped
	// broker could otherwise get the broker's own port, and connect to itself.
	portLow, portHigh = 20000, 32000

	// startTimeout bounds the wait for a broker's listeners, endTimeout the wait
	// for its end. Both are far above what a loaded machine has shown.
	startTimeout = 30 * time.Second
	endTimeout   = 30 * time.Second
)

// freePorts returns n loopback ports on which no program listens now.
func freePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for range 1000 {
		if len(ports) == n {
			return ports, nil
		}
		port := portLow + rand.IntN(portHigh-portLow)
		l, err := net.Listen("tcp", hostPort(port))
		if err != nil {
			continue
		}
		defer l.Close() // held to the end, so that no port comes twice
		ports = append(ports, port)
	}
	return nil, fmt.Errorf("no %d free ports between %d and %d", n, portLow, portHigh)
}

func hostPort(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// tempDir makes a directory that the test's cleanup removes. The name is short:
// a unix socket's path has at most 107 bytes.
func tempDir(tb TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "millrace")
	if err != nil {
		tb.Fatalf("temporary directory: %v", err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func socketPath(dir string) string { return filepath.Join(dir, "mqtt.sock") }

// endpoint is where a listener is dialed to see that it accepts.
type endpoint struct{ network, address string }

// fiveURLs returns the addresses of listeners for tcp, tls, mutual tls, ws and wss,
// and of a unix socket in dir.
func fiveURLs(ports []int, dir string) map[Transport]string {
	return map[Transport]string{
		TCP:       "mqtt://" + hostPort(ports[0]),
		TLS:       "mqtts://" + hostPort(ports[1]),
		MutualTLS: "mqtts://" + hostPort(ports[2]),
		WS:        "ws://" + hostPort(ports[3]) + "/mqtt",
		WSS:       "wss://" + hostPort(ports[4]) + "/mqtt",
		Unix:      "unix://" + socketPath(dir),
	}
}

// fiveEndpoints are the endpoints of fiveURLs.
func fiveEndpoints(ports []int, dir string) []endpoint {
	endpoints := []endpoint{{"unix", socketPath(dir)}}
	for _, port := range ports {
		endpoints = append(endpoints, endpoint{"tcp", hostPort(port)})
	}
	return endpoints
}

// waitAccepting returns when every endpoint accepts a connection, or with the
// cause when died or the deadline comes first.
func waitAccepting(endpoints []endpoint, died <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var dialer net.Dialer
	for _, e := range endpoints {
		for {
			conn, err := dialer.DialContext(ctx, e.network, e.address)
			if err == nil {
				conn.Close()
				break
			}
			select {
			case <-tick.C:
			case cause := <-died:
				return cause
			case <-ctx.Done():
				return fmt.Errorf("listener %s does not accept: %w", e.address, err)
			}
		}
	}
	return nil
}

// within runs a blocking step that has no deadline of its own.
func within(d time.Duration, what string, step func() error) error {
	done := make(chan error, 1)
	go func() { done <- step() }() // ends with step; abandoned only when the test fails
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("%s did not end within %v", what, d)
	}
}
