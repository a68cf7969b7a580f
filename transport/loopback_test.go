//go:build unix

package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// listen echoes on a socket of the system until the test ends.
func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(conn, conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l
}

func TestLoopbackTCP(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	u := mustParse(t, "mqtt://"+l.Addr().String())
	d := Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}}
	conn, err := d.Dial(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tcp, ok := conn.(*net.TCPConn) // anything else would lose writev
	if !ok {
		t.Fatalf("got %T, want *net.TCPConn", conn)
	}
	if got := tcp.LocalAddr().(*net.TCPAddr).IP.String(); got != "127.0.0.1" {
		t.Errorf("local address %s", got)
	}
	for name, option := range map[string][2]int{
		"TCP_NODELAY":  {syscall.IPPROTO_TCP, syscall.TCP_NODELAY},
		"SO_KEEPALIVE": {syscall.SOL_SOCKET, syscall.SO_KEEPALIVE},
	} {
		if !socketOption(t, tcp, option[0], option[1]) {
			t.Errorf("%s is off", name)
		}
	}
	if err := roundTrip(t.Context(), &Dialer{}, mustParse(t, "mqtt://"+listen(t, "tcp", "127.0.0.1:0").Addr().String())); err != nil {
		t.Error(err)
	}
}

func TestLoopbackUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listen(t, "unix", path)
	// LocalAddr is for TCP, a proxy for the network: neither is used here.
	d := Dialer{LocalAddr: &net.TCPAddr{}, Proxy: mustURL(t, "http://proxy.test")}
	if err := roundTrip(t.Context(), &d, mustParse(t, "unix://"+path)); err != nil {
		t.Error(err)
	}
	_, err := d.Dial(t.Context(), mustParse(t, "unix://"+path+".missing"))
	if step, ok := errors.AsType[*StepError](err); !ok || step.Step != StepDial || !errors.Is(err, syscall.ENOENT) {
		t.Errorf("got %v, want a StepError at dial with ENOENT", err)
	}
}

func TestLoopbackRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	_, err = new(Dialer).Dial(t.Context(), mustParse(t, "mqtt://"+l.Addr().String()))
	if step, ok := errors.AsType[*StepError](err); !ok || step.Step != StepDial || !isType[*net.OpError](err) {
		t.Errorf("got %v, want a StepError at dial that wraps a net.OpError", err)
	}
}

func TestLoopbackDeadline(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0") // echoes: to a TLS client that is no answer it can use
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = new(Dialer).Dial(ctx, mustParse(t, "mqtts://"+silent.Addr().String()))
	if step, ok := errors.AsType[*StepError](err); !ok || step.Step != StepTLS || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want a StepError at tls with the deadline", err)
	}
	if _, err := new(Dialer).Dial(t.Context(), mustParse(t, "mqtts://"+l.Addr().String())); err == nil {
		t.Error("an echo passed for a TLS server")
	}
}

func socketOption(t *testing.T, conn *net.TCPConn, level, name int) bool {
	t.Helper()
	control, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var value int
	var optErr error
	if err := control.Control(func(fd uintptr) { value, optErr = syscall.GetsockoptInt(int(fd), level, name) }); err != nil || optErr != nil {
		t.Fatal(err, optErr)
	}
	return value != 0
}
