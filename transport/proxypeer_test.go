package transport

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// relay connects the client to target in the network and copies both ways.
func (n *memNet) relay(client io.Reader, conn net.Conn, target string) {
	handler := n.handlers[target]
	if handler == nil {
		return
	}
	near, far := memPair()
	n.wg.Go(func() {
		defer far.Close()
		handler(far)
	})
	n.wg.Go(func() {
		defer near.Close()
		_, _ = io.Copy(near, client)
	})
	_, _ = io.Copy(conn, near)
}

// httpProxy answers CONNECT, asking for the credentials user:hunter2.
func (n *memNet) httpProxy(conn net.Conn) {
	in := bufio.NewReader(conn)
	r, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	if r.Header.Get("Proxy-Authorization") != "Basic dXNlcjpodW50ZXIy" {
		fmt.Fprintf(conn, "HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
		return
	}
	if r.Method != http.MethodConnect || r.RequestURI != r.Host || strings.Contains(r.UserAgent(), "Go") {
		n.t.Errorf("proxy got %s %s for host %s, agent %q", r.Method, r.RequestURI, r.Host, r.UserAgent())
	}
	if n.handlers[r.Host] == nil {
		fmt.Fprintf(conn, "HTTP/1.1 502 no way to it\r\n\r\n")
		return
	}
	fmt.Fprintf(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	n.relay(in, conn, r.Host)
}

// socksProxy speaks SOCKS5 (RFC 1928, RFC 1929), raw bytes throughout.
func (n *memNet) socksProxy(conn net.Conn) {
	if !readExactly(conn, "\x05\x02\x00\x02") { // offers: none, password
		n.t.Error("proxy got another greeting")
		return
	}
	_, _ = io.WriteString(conn, "\x05\x02")
	if !readExactly(conn, "\x01\x04user\x07hunter2") {
		_, _ = io.WriteString(conn, "\x01\x01")
		return
	}
	_, _ = io.WriteString(conn, "\x01\x00")
	var head [5]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil || !bytes.HasPrefix(head[:], []byte("\x05\x01\x00\x03")) {
		n.t.Errorf("proxy got request % x, want a connect to a name", head) // the name is resolved at the proxy
		return
	}
	rest := make([]byte, int(head[4])+2)
	if _, err := io.ReadFull(conn, rest); err != nil {
		return
	}
	name, port := rest[:head[4]], rest[head[4]:]
	target := fmt.Sprintf("%s:%d", name, int(port[0])<<8|int(port[1]))
	if n.handlers[target] == nil {
		_, _ = io.WriteString(conn, "\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00")
		return
	}
	_, _ = io.WriteString(conn, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
	n.relay(conn, conn, target)
}

func readExactly(r io.Reader, want string) bool {
	got := make([]byte, len(want))
	_, err := io.ReadFull(r, got)
	return err == nil && string(got) == want
}
