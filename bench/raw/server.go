package raw

import (
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
)

// Source says what the server sends to a client that subscribes.
type Source struct {
	Message
	Count  int // messages; 0 makes the server a sink only
	Window int // QoS 1: how many may be un-acked
}

// Server answers CONNECT (3.1, 3.1.1 and 5.0), SUBSCRIBE, UNSUBSCRIBE, PINGREQ,
// and acknowledges every PUBLISH and PUBREL, all acks of a read in one write.
type Server struct {
	listener net.Listener
	source   Source
	links    sync.WaitGroup
	received atomic.Int64

	mu     sync.Mutex
	conns  map[net.Conn]struct{} // guarded by mu
	closed bool                  // guarded by mu
}

// Listen starts a server on a free port of 127.0.0.1.
func Listen(source Source) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{listener: l, source: source, conns: make(map[net.Conn]struct{})}
	s.links.Go(s.accept) // ends with the listener; Close waits
	return s, nil
}

// Addr returns host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Received returns how many PUBLISH packets have come, over all links.
func (s *Server) Received() int64 { return s.received.Load() }

// Close ends the listener and every link, and waits for their goroutines.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	s.links.Wait()
	return err
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			conn.Close()
		}
		s.conns[conn] = struct{}{}
		s.mu.Unlock()
		s.links.Go(func() { s.serve(conn) }) // ends with the link; Close waits
	}
}

func (s *Server) serve(conn net.Conn) {
	l := &serverLink{source: s.source, conn: conn, received: &s.received, acked: make(chan int, 64), done: make(chan struct{})}
	l.in.read = conn.Read
	var feeds sync.WaitGroup
	l.run(&feeds)
	close(l.done)
	conn.Close()
	feeds.Wait()
	s.mu.Lock()
	delete(s.conns, conn)
	s.mu.Unlock()
}

// serverLink is one client's connection. Packets leave in whole writes, and a
// net.Conn takes one Write at a time, so the feed and the answers do not mix.
type serverLink struct {
	source   Source
	conn     net.Conn
	in       reader
	out      []byte
	v5       bool
	received *atomic.Int64
	acked    chan int      // PUBACKs of each read, to the feed
	done     chan struct{} // closed when the reader has ended
}

// run reads until the link ends.
func (l *serverLink) run(feeds *sync.WaitGroup) {
	for l.in.fill() == nil {
		l.out = l.out[:0]
		acks, published, subscribed, subscription := 0, 0, false, 0
		for {
			packet, body, err := l.in.next()
			if err != nil {
				return
			}
			if packet == nil {
				break
			}
			switch packet[0] >> 4 {
			case typePuback:
				acks++
			case typeSubscribe:
				subscribed, subscription = true, l.subscribe(packet[body:])
			case typeDisconnect:
				return
			case typePublish:
				published++
				l.answer(packet, body)
			default:
				l.answer(packet, body)
			}
		}
		l.received.Add(int64(published)) // before the acks, so that an acked message is counted
		if len(l.out) > 0 {
			if _, err := l.conn.Write(l.out); err != nil {
				return
			}
		}
		if subscribed && l.source.Count > 0 {
			feeds.Go(func() { l.feed(subscription) }) // ends with its count or the link
		}
		if acks > 0 && l.source.Count > 0 {
			l.acked <- acks // the feed takes all acks, or has marked itself gone
		}
	}
}

// answer appends what a packet is owed.
func (l *serverLink) answer(packet []byte, body int) {
	switch packet[0] >> 4 {
	case typeConnect:
		// Protocol name, then level.
		name := int(binary.BigEndian.Uint16(packet[body:]))
		l.v5 = packet[body+2+name] == 5
		if l.v5 {
			l.out = append(l.out, 0x20, 3, 0, 0, 0)
		} else {
			l.out = append(l.out, 0x20, 2, 0, 0)
		}
	case typePublish:
		qos := packet[0] >> 1 & 3
		if qos == 0 {
			return
		}
		id := body + 2 + int(binary.BigEndian.Uint16(packet[body:]))
		a := ack(typePuback+qos-1, packet[id:])
		l.out = append(l.out, a[:]...)
	case typePubrec:
		a := ack(typePubrel, packet[body:])
		l.out = append(l.out, a[:]...)
	case typePubrel:
		a := ack(typePubcomp, packet[body:])
		l.out = append(l.out, a[:]...)
	case typeUnsubscribe:
		l.unsubscribe(packet[body:])
	case typePingreq:
		l.out = append(l.out, 0xd0, 0)
	}
}

// subscribe answers with the QoS asked for and returns the subscription
// identifier, 0 without one.
func (l *serverLink) subscribe(body []byte) (subscription int) {
	filters := body[2:]
	if l.v5 {
		var properties []byte
		properties, filters = cutProperties(filters)
		if len(properties) > 1 && properties[0] == 0x0b {
			subscription, _ = varint(properties[1:])
		}
	}
	var codes []byte
	for len(filters) > 2 {
		n := 2 + int(binary.BigEndian.Uint16(filters))
		codes = append(codes, filters[n]&3)
		filters = filters[n+1:]
	}
	l.appendListAck(0x90, body[:2], codes)
	return subscription
}

func (l *serverLink) unsubscribe(body []byte) {
	if !l.v5 {
		l.out = append(l.out, 0xb0, 2, body[0], body[1])
		return
	}
	_, filters := cutProperties(body[2:])
	var codes []byte
	for len(filters) > 2 {
		codes = append(codes, 0)
		filters = filters[2+int(binary.BigEndian.Uint16(filters)):]
	}
	l.appendListAck(0xb0, body[:2], codes)
}

func (l *serverLink) appendListAck(first byte, id, codes []byte) {
	length := 2 + len(codes)
	if l.v5 {
		length++
	}
	l.out = append(appendVarint(append(l.out, first), length), id...)
	if l.v5 {
		l.out = append(l.out, 0)
	}
	l.out = append(l.out, codes...)
}

func cutProperties(b []byte) (properties, rest []byte) {
	length, n := varint(b)
	return b[n : n+length], b[n+length:]
}

func varint(b []byte) (value, n int) {
	for i, c := range b {
		value |= int(c&0x7f) << (7 * i)
		if c < 0x80 {
			return value, i + 1
		}
	}
	return 0, len(b)
}

// feed writes the source's messages in batches. At QoS 1 it never has more than
// the window un-acked.
func (l *serverLink) feed(subscription int) {
	packets := newRing(l.source.Message, l.v5, subscription, ringSize(l.source.Message, l.source.Window))
	unacked := 0
	for sent := 0; sent < l.source.Count; {
		room := l.source.Count - sent
		if l.source.QoS > 0 {
			room = min(room, l.source.Window-unacked)
		}
		if room == 0 {
			n, ok := l.nextAcks()
			if !ok {
				return
			}
			unacked -= n
			continue
		}
		b, k := packets.take(room)
		if _, err := l.conn.Write(b); err != nil {
			break
		}
		sent += k
		unacked += k
	}
	for { // the reader must never wait for a feed that has ended
		if _, ok := l.nextAcks(); !ok {
			return
		}
	}
}

// nextAcks waits for acks; false means that the link has ended.
func (l *serverLink) nextAcks() (int, bool) {
	select {
	case n := <-l.acked:
		return n, true
	case <-l.done:
		return 0, false
	}
}
