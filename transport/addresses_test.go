package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// hosts is a LookupHost that knows every name by the same addresses.
func hosts(addresses ...string) func(context.Context, string) ([]netip.Addr, error) {
	return func(context.Context, string) ([]netip.Addr, error) {
		var found []netip.Addr
		for _, a := range addresses {
			found = append(found, netip.MustParseAddr(a))
		}
		return found, nil
	}
}

func TestAddressesTakeTheFamiliesInTurn(t *testing.T) {
	all := []string{"2001:db8::1", "2001:db8::2", "fe80::3%eth0", "192.0.2.1", "::ffff:192.0.2.2", "192.0.2.1"}
	local4, local6 := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.TCPAddr{IP: net.IPv6loopback}
	tests := []struct {
		name, raw string
		found     []string
		edit      func(*Dialer)
		want      string
	}{
		{"both", "mqtt://h.test", all, nil, "[2001:db8::1]:1883 192.0.2.1:1883 [2001:db8::2]:1883 192.0.2.2:1883 [fe80::3%eth0]:1883"},
		{"IPv4 first", "wss://h.test:9001", []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"}, nil, "192.0.2.1:9001 [2001:db8::1]:9001 192.0.2.2:9001"},
		{"one", "mqtt://h.test", []string{"192.0.2.1"}, nil, "192.0.2.1:1883"},
		{"from an IPv4 address", "mqtt://h.test", all, func(d *Dialer) { d.LocalAddr = local4 }, "192.0.2.1:1883 192.0.2.2:1883"},
		{"from an IPv6 address", "mqtt://h.test", all[3:], func(d *Dialer) { d.LocalAddr = local6 }, "error"},
		{"from a port", "mqtt://h.test", all[2:4], func(d *Dialer) { d.LocalAddr = &net.TCPAddr{Port: 1} }, "[fe80::3%eth0]:1883 192.0.2.1:1883"},
		{"none", "mqtt://h.test", nil, nil, "error"},
		{"an address is not looked up", "mqtt://192.0.2.9", all, nil, "192.0.2.9:1883"},
		{"nor one with a zone", "mqtt://[fe80::1%25eth0]", all, nil, "[fe80::1%eth0]:1883"},
		{"nor a unix socket", "unix:///run/s", all, nil, "/run/s"},
		{"a proxy gets the name", "mqtt://h.test", all, func(d *Dialer) { d.Proxy = mustURL(t, "http://proxy.test") }, "h.test:1883"},
		{"so does a dialer", "mqtt://h.test", all, func(d *Dialer) { d.LookupHost, d.DialFunc = nil, newMemNet(t).dial }, "h.test:1883"},
		{"a dialer beside a look-up does not", "mqtt://h.test", all[3:4], func(d *Dialer) { d.DialFunc = newMemNet(t).dial }, "192.0.2.1:1883"},
	}
	for _, tt := range tests {
		d := Dialer{LookupHost: hosts(tt.found...)}
		if tt.edit != nil {
			tt.edit(&d)
		}
		got, err := d.Addresses(t.Context(), mustParse(t, tt.raw))
		if tt.want == "error" {
			if step, ok := errors.AsType[*StepError](err); !ok || step.Step != StepResolve {
				t.Errorf("%s: got %v, %v; want a StepError at resolve", tt.name, got, err)
			}
		} else if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%s: got %v, %v; want %s", tt.name, got, err, tt.want)
		}
	}
}

// Without LookupHost names are looked up as the net package does.
func TestAddressesOfLocalhost(t *testing.T) {
	got, err := new(Dialer).Addresses(t.Context(), mustParse(t, "mqtt://localhost"))
	if err != nil || !slices.Contains(got, "127.0.0.1:1883") {
		t.Errorf("got %v, %v", got, err)
	}
	_, err = new(Dialer).Dial(t.Context(), mustParse(t, "mqtt://no-such-host.invalid"))
	if step, ok := errors.AsType[*StepError](err); !ok || step.Step != StepResolve || !isType[*net.DNSError](err) {
		t.Errorf("got %v, want a StepError at resolve with a net.DNSError", err)
	}
}

// silent accepts and says nothing.
func silent(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// Each step above the socket that meets silence, a cut or a refused connection goes on to the next
// address, within half of the time that is left; the last address has all of it.
func TestDialGoesOnToTheNextAddress(t *testing.T) {
	cut := func(net.Conn) {}
	half := func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 101 Swi"); silent(c) }
	tests := []struct {
		name, raw string
		first     func(net.Conn) // at 192.0.2.1 and 192.0.2.2; nil refuses
		took      time.Duration
	}{
		{"refused", "mqtt://broker.test", nil, 0},
		{"silent to TLS", "mqtts://broker.test", silent, 9 * time.Second},
		{"cut in TLS", "mqtts://broker.test", cut, 0},
		{"silent to the upgrade", "ws://broker.test", silent, 9 * time.Second},
		{"half an answer to the upgrade", "ws://broker.test", half, 9 * time.Second},
		{"cut in the upgrade", "ws://broker.test", cut, 0},
		{"silent to the TLS of wss", "wss://broker.test", silent, 9 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				u := mustParse(t, tt.raw)
				good := w.handlers[u.Address()]
				port := fmt.Sprint(":", u.Port)
				if tt.first != nil {
					w.handlers["192.0.2.1"+port], w.handlers["192.0.2.2"+port] = tt.first, tt.first
				}
				w.handlers["192.0.2.3"+port] = good
				d := Dialer{DialFunc: w.dial, LookupHost: hosts("192.0.2.1", "192.0.2.2", "192.0.2.3"), TLS: &tls.Config{RootCAs: w.pki.roots}}
				ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
				defer cancel()
				began := time.Now()
				if err := roundTrip(ctx, &d, u); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took != tt.took {
					t.Errorf("took %v, want %v: 6 s and 3 s of 12 s", took, tt.took)
				}
				if u.TLS() {
					if name, _ := w.hello(); name != "broker.test" {
						t.Errorf("the server name is %q, want that of the URL", name)
					}
				}
			})
		})
	}
}

// When every address is silent each has had its share, and the error names them all.
func TestDialErrorNamesEachAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(t)
		n.handlers["192.0.2.1:8883"], n.handlers["[2001:db8::1]:8883"] = silent, silent
		d := Dialer{DialFunc: n.dial, LookupHost: hosts("192.0.2.1", "2001:db8::1", "192.0.2.3")}
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		began := time.Now()
		_, err := d.Dial(ctx, mustParse(t, "mqtts://u:hunter2@broker.test"))
		if took := time.Since(began); took != 9*time.Second {
			t.Errorf("took %v, want 9 s: the third refuses", took)
		}
		for _, want := range []string{"tls mqtts://broker.test:8883 at 192.0.2.1:8883: ", "at [2001:db8::1]:8883: ", "dial mqtts://broker.test:8883 at 192.0.2.3:8883: "} {
			if strings.Count(err.Error(), want) != 1 {
				t.Errorf("%q is not once in: %v", want, err)
			}
		}
		if strings.Contains(err.Error(), "hunter2") || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
			t.Errorf("%v is no timeout", err)
		}
		n.mustAllBeClosed()
	})
}

// An answer ends the attempt: the other addresses are those of the same server.
func TestDialDoesNotGoOnAfterAnAnswer(t *testing.T) {
	refusal := func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
	}
	alert := func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "\x15\x03\x03\x00\x02\x02\x28")
		silent(c)
	}
	tests := []struct {
		name, raw string
		first     func(w *world) func(net.Conn)
		is        func(error) bool
	}{
		{"HTTP status", "ws://broker.test", func(*world) func(net.Conn) { return refusal }, isType[*HandshakeError]},
		{"subprotocol", "ws://broker.test", func(*world) func(net.Conn) {
			return func(c net.Conn) { _, _ = acceptWS(c, "chat") }
		}, isType[*SubprotocolError]},
		{"certificate", "mqtts://broker.test", func(w *world) func(net.Conn) { return w.handlers["broker.test:8883"] }, isType[x509.UnknownAuthorityError]},
		{"alert", "mqtts://broker.test", func(*world) func(net.Conn) { return alert }, isType[*net.OpError]},
		{"no TLS there", "mqtts://broker.test", func(*world) func(net.Conn) {
			return func(c net.Conn) { _, _ = io.WriteString(c, "\x20\x02\x00\x00\x00"); silent(c) }
		}, isType[tls.RecordHeaderError]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			u := mustParse(t, tt.raw)
			w.handlers[fmt.Sprint("192.0.2.1:", u.Port)] = tt.first(w)
			d := Dialer{DialFunc: w.dial, LookupHost: hosts("192.0.2.1", "192.0.2.2"), TLS: &tls.Config{RootCAs: x509.NewCertPool()}}
			_, err := d.Dial(t.Context(), u)
			if !tt.is(err) || !Answered(err) {
				t.Errorf("got %v, want the answer", err)
			}
			if got := w.addresses(); len(got) != 1 {
				t.Errorf("dialled %v, want one", got)
			}
		})
	}
}

// A name with several addresses: headers are made for each of them, and the share of an address
// does not begin before they are there.
func TestDialMakesHeadersForEachAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(t)
		n.handlers["192.0.2.1:80"] = silent
		requests := make(chan *http.Request, 1)
		n.handlers["192.0.2.2:80"] = func(c net.Conn) {
			if p, err := acceptWS(c, "mqtt"); err == nil {
				requests <- p.request
			}
		}
		calls := 0
		d := Dialer{DialFunc: n.dial, LookupHost: hosts("192.0.2.1", "192.0.2.2"), HeaderFunc: func(ctx context.Context, _ *URL) (http.Header, error) {
			calls++
			if calls == 1 {
				time.Sleep(7 * time.Second)
			}
			return http.Header{"Ticket": {fmt.Sprint(calls)}}, context.Cause(ctx)
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		conn, err := d.Dial(ctx, mustParse(t, "ws://broker.test"))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if r := <-requests; r.Host != "broker.test" || r.Header.Get("Ticket") != "2" {
			t.Errorf("Host %q and ticket %q, want broker.test and the second", r.Host, r.Header.Get("Ticket"))
		}
	})
}

// stuckDial leaves some addresses without an answer to the TCP connect.
type stuckDial struct {
	*memNet
	stuck map[string]bool
}

func (d stuckDial) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if d.stuck[address] {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
	}
	return d.memNet.dial(ctx, network, address)
}

// A family whose packets vanish costs 250 ms, as RFC 8305 section 5 has it, not half of the time.
func TestUnansweredConnectIsOvertaken(t *testing.T) {
	for stuck, want := range map[int]time.Duration{0: 0, 1: 250 * time.Millisecond, 3: 750 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			n := stuckDial{newMemNet(t), map[string]bool{}}
			all := []string{"2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"}
			for i, a := range all {
				a = net.JoinHostPort(a, "1883")
				n.stuck[a] = i < stuck
				n.handlers[a] = echo
			}
			d := Dialer{DialFunc: n.dial, LookupHost: hosts(all...)}
			began := time.Now()
			if err := roundTrip(t.Context(), &d, mustParse(t, "mqtt://broker.test")); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took != want {
				t.Errorf("%d unanswered: took %v, want %v", stuck, took, want)
			}
			n.mustAllBeClosed()
		})
	}
}

// A connect that is late although it was given up is closed.
func TestLateConnectIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(t)
		n.handlers["192.0.2.1:1883"], n.handlers["192.0.2.2:1883"] = echo, echo
		d := Dialer{LookupHost: hosts("192.0.2.1", "192.0.2.2"), DialFunc: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "192.0.2.1:1883" {
				<-ctx.Done() // and then it succeeds all the same
			}
			return n.dial(ctx, network, address)
		}}
		if err := roundTrip(t.Context(), &d, mustParse(t, "mqtt://broker.test")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := n.addresses(); len(got) != 2 {
			t.Errorf("dialled %v", got)
		}
		n.mustAllBeClosed()
	})
}

// A connect that does not look at its context holds up nothing once another address has accepted,
// and what it opens in the end is closed.
func TestConnectThatIgnoresItsContextDoesNotHoldUpTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemNet(t)
		n.handlers["192.0.2.1:1883"], n.handlers["192.0.2.2:1883"] = echo, echo
		freed := make(chan struct{})
		d := Dialer{LookupHost: hosts("192.0.2.1", "192.0.2.2"), DialFunc: func(_ context.Context, network, address string) (net.Conn, error) {
			if address == "192.0.2.1:1883" {
				<-freed
			}
			return n.dial(context.Background(), network, address)
		}}
		began := time.Now()
		if err := roundTrip(t.Context(), &d, mustParse(t, "mqtt://broker.test")); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != connectionAttemptDelay {
			t.Errorf("took %v", took)
		}
		close(freed)
		synctest.Wait()
		if got := n.addresses(); len(got) != 2 {
			t.Errorf("dialled %v", got)
		}
		n.mustAllBeClosed()
	})
}

// An address that leaves the connect unanswered has its share beside one that accepts and is mute,
// and the whole attempt stays within its time.
func TestUnansweredAndMuteAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := stuckDial{newMemNet(t), map[string]bool{"192.0.2.1:8883": true}}
		n.handlers["192.0.2.2:8883"] = silent
		d := Dialer{DialFunc: n.dial, LookupHost: hosts("192.0.2.1", "192.0.2.2", "192.0.2.3")}
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		began := time.Now()
		_, err := d.Dial(ctx, mustParse(t, "mqtts://broker.test"))
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("took %v", took)
		}
		for _, a := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} {
			if strings.Count(err.Error(), "at "+a+":8883") != 1 {
				t.Errorf("%s is not once in: %v", a, err)
			}
		}
		n.mustAllBeClosed()
	})
}

func TestAnswered(t *testing.T) {
	for err, want := range map[error]bool{
		io.EOF: false, io.ErrUnexpectedEOF: false, syscall.ECONNRESET: false, syscall.EPIPE: false, syscall.ETIMEDOUT: false,
		syscall.EHOSTUNREACH: false, context.DeadlineExceeded: false, &shareError{}: false,
		&StepError{Step: StepDial, Err: errors.New("anything")}:                        false,
		&StepError{Step: StepTLS, Err: &net.OpError{Op: "read", Err: errors.New("x")}}: true,
		&CloseError{Code: 1008, Text: "no"}:                                            true,
		&CloseError{Code: 4000}:                                                        true,
		&CloseError{Code: 1000}:                                                        false,
		&CloseError{Code: 1013, Text: "later"}:                                         false,
		&HandshakeError{Status: 503}:                                                   true,
	} {
		if got := Answered(err); got != want {
			t.Errorf("%v: %t, want %t", err, got, want)
		}
	}
}
