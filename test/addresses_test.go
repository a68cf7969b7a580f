package mqtt_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// named is a server with several addresses, and what a connection to each meets: "refused",
// "unanswered", "mute", "cut", or in hex the answer to CONNECT, after which the peer is silent.
type named struct {
	t       *testing.T
	network server.Network
	mu      sync.Mutex
	meets   map[string]string
	dialed  []string
	playing map[string]bool
}

func newNamed(t *testing.T, meets map[string]string) *named {
	return &named{t: t, meets: meets, playing: map[string]bool{}}
}

// lookup makes every name have these addresses.
func lookup(addresses ...string) mqtt.ConnectOption {
	return mqtt.WithHostLookup(func(context.Context, string) ([]netip.Addr, error) {
		var found []netip.Addr
		for _, a := range addresses {
			found = append(found, netip.MustParseAddr(a))
		}
		return found, nil
	})
}

func (n *named) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(address)
	n.mu.Lock()
	n.dialed = append(n.dialed, host)
	meets := n.meets[host]
	begin := meets != "refused" && meets != "unanswered" && !n.playing[meets]
	n.playing[meets] = n.playing[meets] || begin
	n.mu.Unlock()
	if begin {
		n.play(meets)
	}
	if meets == "unanswered" {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
	}
	return n.network.Dial(ctx, network, meets)
}

// play serves all connections that meet the same until the test ends.
func (n *named) play(meets string) {
	ln := listen(n.t, &n.network, meets)
	n.t.Cleanup(func() { ln.Close() })
	go func() { // ends when the listener closes
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // ends when the client closes
				defer nc.Close()
				if meets == "cut" {
					nc.Read(make([]byte, 1024))
					return
				}
				if meets != "mute" {
					nc.Read(make([]byte, 1024))
					nc.Write(server.Hex(meets))
				}
				io.Copy(io.Discard, nc)
			}()
		}
	}()
}

// now changes what a connection to address meets from now on.
func (n *named) now(address, meets string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.meets[address] = meets
}

// taken returns the addresses dialed since the last call.
func (n *named) taken() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := strings.Join(n.dialed, " ")
	n.dialed = nil
	return all
}

const addrA, addrB, addrC = "192.0.2.1", "192.0.2.2", "192.0.2.3"

// An address that accepts and then says nothing, or cuts, has its share of the time; the next is
// tried in the same attempt, with CONNECT and all.
func TestMuteAddressIsPassedInTheSameAttempt(t *testing.T) {
	for meets, want := range map[string]time.Duration{
		"mute": 5 * time.Second, "cut": 0, "refused": 0, "unanswered": 250 * time.Millisecond,
		"20": 5 * time.Second, server.ConnackBusy: 0, "20 03 00 88 00": 0,
	} {
		for _, first := range []string{addrA, "2001:db8::1"} {
			synctest.Test(t, func(t *testing.T) {
				n := newNamed(t, map[string]string{first: meets, addrB: server.Connack})
				asked := 0
				began := time.Now()
				conn, err := mqtt.Connect(t.Context(), "mqtt://broker.test", mqtt.WithDialer(n.dial), lookup(first, addrB),
					mqtt.WithKeepAlive(-1), mqtt.WithCredentialsFunc(func(context.Context) (mqtt.Credentials, error) {
						asked++
						return mqtt.Credentials{}, nil
					}))
				if err != nil {
					t.Fatalf("%s at %s: %v", meets, first, err)
				}
				defer conn.Abort()
				if took := time.Since(began); took != want {
					t.Errorf("%s at %s: connected after %v, want %v", meets, first, took, want)
				}
				if asked != 1 {
					t.Errorf("asked for credentials %d times in one attempt", asked)
				}
				if ev := await[mqtt.Connected](t, conn.Events()); ev.Address != addrB+":1883" || ev.Server != "mqtt://broker.test:1883" {
					t.Errorf("connected to %s at %s", ev.Server, ev.Address)
				}
			})
		}
	}
}

// An answer to CONNECT is that of the server, whatever the address.
func TestRefusalIsNotTakenToTheNextAddress(t *testing.T) {
	for _, meets := range []string{server.ConnackBadLogin, server.ConnackForbidden, server.ConnackBadID, "20 03 00 97 00", "20 03 00 9F 00", "30 00"} {
		synctest.Test(t, func(t *testing.T) {
			n := newNamed(t, map[string]string{addrA: meets, addrB: server.Connack})
			_, err := mqtt.Connect(t.Context(), "mqtt://broker.test", mqtt.WithDialer(n.dial), lookup(addrA, addrB), mqtt.WithVersions(mqtt.V5))
			if got := n.taken(); err == nil || got != addrA {
				t.Errorf("%s: dialed %s, then %v; want %s alone", meets, got, err, addrA)
			}
			if e, ok := errors.AsType[*mqtt.ConnectError](err); !ok || e.Address != addrA+":1883" {
				t.Errorf("%s: got %v, want a ConnectError with the address", meets, err)
			}
		})
	}
}

// Half of the time for the first, a quarter for the second, the rest for the last; the next attempt
// begins behind the first, so that each has the large share once.
func TestEachAddressHasTheLargeShareOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNamed(t, map[string]string{addrA: "mute", addrB: "mute", addrC: "mute"})
		conn, err := mqtt.Connect(t.Context(), "mqtt://broker.test", mqtt.WithDialer(n.dial), lookup(addrA, addrB, addrC),
			mqtt.WithFirstConnect(mqtt.FirstConnectBackground), mqtt.WithConnectTimeout(8*time.Second), mqtt.WithBackoff(steady(time.Second)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Abort()
		for _, want := range []string{"1 2 3", "2 3 1", "3 1 2", "1 2 3"} {
			began := time.Now()
			ev := await[mqtt.Retrying](t, conn.Events())
			if took := time.Since(began); took != 8*time.Second && took != 9*time.Second { // after the first, 1 s of backoff
				t.Errorf("the attempt took %v, want 8 s", took)
			}
			want = "192.0.2." + strings.ReplaceAll(want, " ", " 192.0.2.")
			if got := n.taken(); got != want {
				t.Errorf("dialed %s, want %s", got, want)
			}
			lines := strings.Split(ev.Err.Error(), "\n")
			if len(lines) != 3 || !strings.HasPrefix(lines[0], "mqtt: connect to mqtt://broker.test:1883 at "+want[:9]+":1883: CONNACK: no answer within 4s") ||
				!strings.Contains(lines[1], "within 2s") || !strings.Contains(lines[2], "no connection within 8s") {
				t.Errorf("the error is not readable:\n%v", ev.Err)
			}
		}
		// One that answers is tried first from then on.
		n.now(addrC, server.Connack)
		await[mqtt.Connected](t, conn.Events())
		n.taken()
		conn.Reconnect()
		await[mqtt.Connected](t, conn.Events())
		if got := n.taken(); got != addrC {
			t.Errorf("dialed %s after a link to %s", got, addrC)
		}
	})
}

// The address that works may be the last: it is tried first when the link is lost.
func TestAddressThatWorksIsTriedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNamed(t, map[string]string{addrA: "mute", addrB: "refused", addrC: server.Connack})
		conn, err := mqtt.Connect(t.Context(), "mqtt://broker.test", mqtt.WithDialer(n.dial), lookup(addrA, addrB, addrC), mqtt.WithBackoff(steady(time.Second)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Abort()
		n.taken()
		n.network.CutAll()
		await[mqtt.Disconnected](t, conn.Events())
		began := time.Now()
		await[mqtt.Connected](t, conn.Events())
		if got, took := n.taken(), time.Since(began); got != addrC || took != time.Second {
			t.Errorf("dialed %s for %v, want %s at once after the backoff", got, took, addrC)
		}
	})
}

// A version is tried at the address that refused the one before it.
func TestVersionFallbackStaysAtTheAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNamed(t, map[string]string{addrA: "mute", addrB: server.ConnackVersion3, addrC: server.Connack})
		_, err := mqtt.Connect(t.Context(), "mqtt://broker.test", mqtt.WithDialer(n.dial), lookup(addrA, addrB, addrC))
		if got := n.taken(); got != addrA+" "+addrB+" "+addrB {
			t.Errorf("dialed %s", got)
		}
		wantErr(t, "Connect", err, mqtt.ErrUnsupportedVersion)
	})
}

// A name whose look-up fails is no address that fails.
func TestLookupThatFailsIsAResolveError(t *testing.T) {
	fails := errors.New("the resolver is down")
	_, err := mqtt.Connect(t.Context(), "mqtt://u:hunter2@broker.test",
		mqtt.WithHostLookup(func(context.Context, string) ([]netip.Addr, error) { return nil, fails }))
	wantErr(t, "Connect", err, fails)
	if e, ok := errors.AsType[*mqtt.ConnectError](err); !ok || e.Step != "resolve" || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want a ConnectError at resolve", err)
	}
}

// On real sockets: two loopback addresses that accept and say nothing, and one that serves.
func TestMuteLoopbackAddresses(t *testing.T) {
	first, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	_, port, _ := net.SplitHostPort(first.Addr().String())
	var others []net.Listener
	for _, host := range []string{"::1", "127.0.0.2"} {
		ln, err := net.Listen("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Skip("no second loopback address: ", err)
		}
		defer ln.Close()
		others = append(others, ln)
	}
	srv := server.New(server.Config{})
	go srv.Serve(others[1])
	defer srv.Close()
	conn, err := mqtt.Connect(t.Context(), "mqtt://broker.test:"+port, lookup("::1", "127.0.0.1", "127.0.0.2"), mqtt.WithConnectTimeout(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if ev := await[mqtt.Connected](t, conn.Events()); ev.Address != "127.0.0.2:"+port {
		t.Errorf("connected to %s", ev.Address)
	}
}

// When no address takes the socket the error has a line for each, and is a ConnectError at dial.
func TestEveryAddressRefusesOrIsUnanswered(t *testing.T) {
	for meets, took := range map[string]time.Duration{"refused": 0, "unanswered": 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			n := newNamed(t, map[string]string{addrA: meets, addrB: "refused", addrC: meets})
			began := time.Now()
			_, err := mqtt.Connect(t.Context(), "mqtt://u:hunter2@broker.test", mqtt.WithDialer(n.dial), lookup(addrA, addrB, addrC))
			if e, ok := errors.AsType[*mqtt.ConnectError](err); !ok || e.Step != "dial" || e.Address != addrA+":1883" {
				t.Fatalf("got %#v, want a ConnectError at dial", err)
			}
			if got := time.Since(began); got != took {
				t.Errorf("%s: took %v, want %v", meets, got, took)
			}
			lines := strings.Split(err.Error(), "\n")
			for _, a := range []string{addrA, addrB, addrC} {
				if !slices.ContainsFunc(lines, func(l string) bool {
					return strings.Contains(l, "mqtt: connect to mqtt://broker.test:1883 at "+a+":1883: dial: ")
				}) {
					t.Errorf("%s: no line for %s in:\n%v", meets, a, err)
				}
			}
			if len(lines) != 3 || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: got\n%v", meets, err)
			}
			if meets == "unanswered" {
				wantErr(t, "Connect", err, context.DeadlineExceeded)
			}
			wantErr(t, "Connect", err, syscall.ECONNREFUSED)
		})
	}
}

// An address that refused the version before the last link, and speaks it again, does not count
// when another one refuses now: the Conn goes on, and finds the first.
func TestVersionRefusedBeforeTheLastLinkDoesNotEndTheConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNamed(t, map[string]string{addrA: server.Connack + " E0 02 8B 00", addrB: server.Connack})
		conn, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithVersions(mqtt.V5), lookup(addrA, addrB),
			mqtt.WithDialer(n.dial), mqtt.WithBackoff(steady(time.Second)), mqtt.WithKeepAlive(10*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Abort()
		n.now(addrA, server.ConnackVersion5)
		time.Sleep(5 * time.Second) // B has the link, whose server is silent
		n.now(addrA, server.Connack)
		n.now(addrB, server.ConnackVersion5)
		time.Sleep(time.Minute)
		if err := conn.Err(); err != nil {
			t.Errorf("the Conn has ended: %v; dialed %s", err, n.taken())
		}
	})
}

// A dialer that does not look at its context, as ssh.Client.Dial, and is stuck at one address does
// not hold up the connection that another one has accepted.
func TestDialerStuckAtOneAddressDoesNotHoldUpAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNamed(t, map[string]string{addrB: server.Connack})
		freed := make(chan struct{})
		defer close(freed)
		began := time.Now()
		conn, err := mqtt.Connect(t.Context(), "mqtt://server", lookup(addrA, addrB), mqtt.WithKeepAlive(-1),
			mqtt.WithDialer(func(ctx context.Context, network, address string) (net.Conn, error) {
				if address == addrA+":1883" {
					<-freed
					return nil, net.ErrClosed
				}
				return n.dial(ctx, network, address)
			}))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Abort()
		if took := time.Since(began); took != 250*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}
