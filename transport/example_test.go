package transport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"github.com/millrace/mqtt/transport"
)

// What prints a URL shows no secret; a program that needs one asks for it.
func ExampleParse() {
	u, err := transport.Parse("wss://billing:s3cret@broker.example/mqtt?X-Amz-Signature=9f86d0")
	if err != nil {
		fmt.Println(err)
		return
	}
	password, _ := u.Password()
	fmt.Println(u)
	fmt.Println(u.Network(), u.Address(), u.TLS(), len(password))

	_, err = transport.Parse("mqtt://billing:s3cret@broker.example:70000")
	fmt.Println(err)
	// Output:
	// wss://broker.example:443/mqtt?xxxxx
	// tcp broker.example:443 true 6
	// transport: URL port: must be 1 to 65535
}

// The context bounds every step, and the error names the one that failed.
func ExampleDialer_Dial() {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and answers nothing
	if err != nil {
		fmt.Println(err)
		return
	}
	defer listener.Close()
	u, err := transport.Parse("mqtts://" + listener.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	var d transport.Dialer
	_, err = d.Dial(ctx, u)
	if failed, ok := errors.AsType[*transport.StepError](err); ok {
		fmt.Println(failed.Step, errors.Is(err, context.DeadlineExceeded))
	}
	// Output: tls true
}

// The addresses of a host are tried in this order, the families in turn. Here the
// look-up is a function; nil asks the system's resolver.
func ExampleDialer_Addresses() {
	d := transport.Dialer{LookupHost: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{
			netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("192.0.2.1"),
		}, nil
	}}
	u, err := transport.Parse("mqtts://broker.example")
	if err != nil {
		fmt.Println(err)
		return
	}
	addresses, err := d.Addresses(context.Background(), u)
	fmt.Println(addresses, err)
	// Output: [[2001:db8::1]:8883 192.0.2.1:8883 [2001:db8::2]:8883] <nil>
}

// DialFunc serves every transport; here the server is in memory.
func ExampleDialer_memory() {
	client, server := net.Pipe()
	go func() {
		_, _ = io.WriteString(server, "hello")
		_ = server.Close()
	}()
	u, err := transport.Parse("mqtt://anywhere.example")
	if err != nil {
		fmt.Println(err)
		return
	}
	d := transport.Dialer{DialFunc: func(_ context.Context, network, address string) (net.Conn, error) {
		fmt.Println(network, address)
		return client, nil
	}}
	conn, err := d.Dial(context.Background(), u)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	fmt.Println(string(text), err)
	// Output:
	// tcp anywhere.example:1883
	// hello <nil>
}

// Headers can be fixed or, for signatures that expire, made for each attempt.
// A server that refuses the upgrade is quoted in the error.
func ExampleDialer_headers() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.URL.Path, r.Header.Get("Origin"), r.Header.Get("X-Signature"))
		http.Error(w, "signature expired", http.StatusForbidden)
	}))
	defer server.Close()
	u, err := transport.Parse("ws://" + server.Listener.Addr().String() + "/mqtt")
	if err != nil {
		fmt.Println(err)
		return
	}
	d := transport.Dialer{
		Header: http.Header{"Origin": {"https://app.example"}},
		HeaderFunc: func(_ context.Context, u *transport.URL) (http.Header, error) {
			return http.Header{"X-Signature": {"signed:" + u.Path}}, nil
		},
	}
	_, err = d.Dial(context.Background(), u)
	if refused, ok := errors.AsType[*transport.HandshakeError](err); ok {
		fmt.Println(refused.Status, string(refused.Body))
	}
	// Output:
	// /mqtt https://app.example signed:/mqtt
	// 403 signature expired
}

func ExampleLoadTLS() {
	_, err := transport.LoadTLS(transport.TLSFiles{CA: "/etc/plant/ca.pem.missing"})
	if bad, ok := errors.AsType[*transport.TLSFileError](err); ok {
		fmt.Println(bad.Use, bad.Path)
	}
	// Output: CA /etc/plant/ca.pem.missing
}
