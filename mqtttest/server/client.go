package server

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/millrace/mqtt/codec"
)

// A client is one network connection, from its acceptance to its end; the session outlives it.
type client struct {
	s    *Server  // immutable
	conn net.Conn // immutable; only run reads it, only write writes it

	// Owned by the reader; version and id are set once, before other goroutines see the client.
	framer    *codec.Framer
	version   codec.Version
	id        string
	keepAlive time.Duration
	aliases   map[uint16]string

	// Guarded by s.mu.
	session   *session
	live      bool         // CONNACK is sent
	early     []delayedAck // answers that wait for CONNACK
	resending bool         // open exchanges of an earlier connection wait for the window
	announced limits       // what the server told the client
	number    int          // of this connection in its session, from 1
	ready     sync.Cond
	out       []byte // encoded, for the writer
	ending    bool   // the writer flushes out and closes
	parted    bool   // the client sent DISCONNECT: the writer flushes out and shuts its side
	silent    bool   // it has done so
	maxPacket int    // largest packet the client takes, 0 = any
	window    int    // PUBLISHes that may be open towards the client
	inflight  int    // PUBLISHes open towards the client
	checks    conformance
}

func newClient(s *Server, conn net.Conn) *client {
	c := &client{s: s, conn: conn, framer: codec.NewFramer(codec.V311, 0), checks: newConformance()}
	c.ready.L = &s.mu
	return c
}

// run reads until the connection ends. It owns the connection's place in the server, also
// when a hook ends the goroutine, as t.FailNow does.
func (c *client) run() {
	c.s.running.Go(c.write)
	var err error
	defer func() {
		if p := recover(); p != nil {
			panic(p)
		}
		c.leave(err)
	}()
	err = c.read()
}

// leave gives back the connection's place in the server.
func (c *client) leave(err error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.fail(err)
	c.end()
	c.s.detach(c, c.parted)
	delete(c.s.clients, c)
	c.s.notify()
}

// read handles packets one by one. Its error is nil when the client closed, or was refused.
func (c *client) read() error {
	for first := true; ; first = false {
		frame, err := c.next()
		if err != nil {
			return err
		}
		switch {
		case first:
			err = c.onConnect(frame)
		case c.hasParted():
			c.violate("%v after DISCONNECT [MQTT-3.14.4-1]", frame.Type)
		default:
			packet, hook := c.s.note(c, frame)
			if hook == nil || !hook(c.id, packet) {
				err = c.handle(frame)
			}
		}
		if err != nil {
			return err
		}
	}
}

// next returns the next packet, waiting for no longer than the keep alive allows.
func (c *client) next() (codec.Frame, error) {
	for {
		frame, ok, err := c.framer.Next()
		if err != nil || ok {
			return frame, err
		}
		var until time.Time
		if c.keepAlive > 0 {
			until = time.Now().Add(c.keepAlive * 3 / 2) // section 3.1.2.10
		}
		_ = c.conn.SetReadDeadline(until) // a closed connection tells at the read
		if n, err := c.framer.Fill(c.conn); n == 0 && err != nil {
			return codec.Frame{}, err
		}
	}
}

func (c *client) hasParted() bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.parted
}

func (c *client) handle(f codec.Frame) error {
	switch f.Type {
	case codec.PUBLISH:
		return c.onPublish(f)
	case codec.PUBACK, codec.PUBREC, codec.PUBREL, codec.PUBCOMP:
		return c.onAck(f)
	case codec.SUBSCRIBE:
		return c.onSubscribe(f)
	case codec.UNSUBSCRIBE:
		return c.onUnsubscribe(f)
	case codec.PINGREQ:
		c.answer(Ack{Type: codec.PINGRESP}, codec.AppendPingresp(nil))
		return nil
	case codec.DISCONNECT:
		return c.onDisconnect(f)
	}
	return &codec.Error{Type: f.Type, Code: codec.ProtocolError, Offset: -1, Detail: "not a packet of a client, or not now"}
}

// fail writes down why the connection ends and tells a 5.0 client. The caller holds mu.
func (c *client) fail(err error) {
	var protocol *codec.Error
	switch {
	case errors.As(err, &protocol):
		c.s.violation(c, "%v", protocol)
		c.disconnect(protocol.Code)
	case errors.Is(err, os.ErrDeadlineExceeded) && !c.ending && !c.parted:
		c.s.log.stats.KeepAliveTimeouts++
		c.disconnect(codec.KeepAliveTimeout)
	}
}

// disconnect ends the connection with a reason, for 5.0 in a DISCONNECT. The caller holds mu.
func (c *client) disconnect(code codec.ReasonCode) {
	if c.ending {
		return
	}
	if c.session != nil && c.version == codec.V5 {
		if b, err := codec.AppendDisconnect(nil, c.version, &codec.Disconnect{Code: code}); err == nil {
			c.send(b)
		}
	}
	c.end()
}

// end has the writer flush what is there and close. The caller holds mu.
func (c *client) end() {
	if !c.ending {
		c.ending = true
		_ = c.conn.SetWriteDeadline(time.Now().Add(c.s.cfg.lastWords()))
	}
	c.ready.Signal()
}

// send hands one encoded packet to the writer. The caller holds mu.
func (c *client) send(packet []byte) {
	if c.ending {
		return
	}
	c.s.noteSent(c, packet)
	c.out = append(c.out, packet...)
	c.ready.Signal()
}

// write writes what is in out until the end, and closes the connection, which ends the reader too.
// After the client's DISCONNECT it only shuts its side: the client sees that the server has closed,
// while the reader still finds what follows the DISCONNECT against the rules.
func (c *client) write() {
	defer c.conn.Close()
	var spare []byte
	for {
		c.s.mu.Lock()
		for len(c.out) == 0 && !c.ending && c.parted == c.silent {
			c.ready.Wait()
		}
		shut := c.parted && !c.silent && len(c.out) == 0 && !c.ending
		c.silent = c.silent || shut
		batch := c.out
		c.out = spare[:0]
		timeout := c.s.cfg.WriteTimeout
		ending := c.ending
		c.s.mu.Unlock()
		if shut {
			if half, ok := c.conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
				continue
			}
		}
		if len(batch) == 0 {
			return
		}
		if timeout > 0 && !ending {
			_ = c.conn.SetWriteDeadline(time.Now().Add(timeout))
		}
		if _, err := c.conn.Write(batch); err != nil {
			return
		}
		spare = batch
		if cap(spare) > 1<<20 {
			spare = nil // do not keep what one large message needed
		}
	}
}

// gone reports whether another connection has taken the session: what is still read here came too
// late. The caller holds mu.
func (c *client) gone() bool { return c.session.client != c }

// cut breaks the connection without a word: by a reset where it knows one. The caller holds mu.
func (c *client) cut() {
	if l := linkOf(c.conn); l != nil {
		l.Cut()
		return
	}
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.shut()
}

// shut closes the connection. The Close of a TLS connection can wait for its peer, which no caller may
// do under mu; Server.Close waits for the goroutine. The caller holds mu.
func (c *client) shut() {
	c.s.running.Go(func() { _ = c.conn.Close() })
}

// linkOf returns the in-memory connection that carries conn, nil if there is none.
func linkOf(conn net.Conn) *Link {
	switch conn := conn.(type) {
	case *Conn:
		return conn.Link()
	case interface{ NetConn() net.Conn }: // *tls.Conn
		return linkOf(conn.NetConn())
	}
	return nil
}
