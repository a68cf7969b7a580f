package raw

import (
	"errors"
	"fmt"
	"io"
	"net"
)

// Client is the least a client can do. With Hop set each message also goes
// through a channel, as any API made of channels must send it.
// Its methods are for one goroutine.
type Client struct {
	conn net.Conn
	in   reader
	hop  bool
	id   uint16
}

// record is as large as a message of a client with typed messages: 64 bytes.
type record struct{ _ [8]uint64 }

// hopDepth is the capacity of the channel of a hop.
const hopDepth = 256

// Dial connects at 3.1.1 with a clean session. hop adds one channel send for
// each message.
func Dial(addr, clientID string, hop bool) (*Client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	connect := append([]byte{typeConnect << 4, byte(12 + len(clientID)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, byte(len(clientID))}, clientID...)
	if _, err := conn.Write(connect); err != nil {
		conn.Close()
		return nil, err
	}
	var connack [4]byte
	if _, err := io.ReadFull(conn, connack[:]); err != nil || connack[3] != 0 {
		conn.Close()
		return nil, fmt.Errorf("raw: no CONNACK: %w", errors.Join(err))
	}
	c := &Client{conn: conn, hop: hop}
	c.in.read = conn.Read
	return c, nil
}

// Close drops the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Idle blocks until the connection ends, as the one goroutine of an idle client.
func (c *Client) Idle() {
	var b [1]byte
	_, _ = c.conn.Read(b[:])
}

// PublishWait publishes one message at QoS 1 and waits for its ack.
func (c *Client) PublishWait(m Message) error {
	m.QoS = 1
	c.id = max(1, c.id+1)
	if _, err := c.conn.Write(m.AppendPublish(nil, c.id, false, 0)); err != nil {
		return err
	}
	for acks := 0; acks == 0; {
		n, _, err := c.readAcks()
		if err != nil {
			return err
		}
		acks += n
	}
	return nil
}

// Publish publishes n messages with at most window of them unacknowledged (any
// number at QoS 0), and returns when all are.
func (c *Client) Publish(m Message, n, window int) error {
	if m.QoS == 0 {
		window = n
	}
	packets := newRing(m, false, 0, ringSize(m, window*int(min(m.QoS, 1))))
	take := packets.take
	if c.hop {
		var stop func()
		take, stop = hopTake(packets, n)
		defer stop()
	}
	credit := window
	for sent, done := 0, 0; done < n; {
		if room := min(credit, n-sent); room > 0 {
			b, k := take(room)
			if _, err := c.conn.Write(b); err != nil {
				return err
			}
			sent, credit = sent+k, credit-k
			if m.QoS == 0 {
				done += k
				continue
			}
			if sent < n && credit > 0 {
				continue
			}
		}
		acks, releases, err := c.readAcks()
		if err != nil {
			return err
		}
		if len(releases) > 0 {
			if _, err := c.conn.Write(releases); err != nil {
				return err
			}
		}
		credit, done = credit+acks, done+acks
	}
	return nil
}

// hopTake wraps a ring: a producer sends one record for each message, and only
// as many packets are taken as records have come.
func hopTake(packets *ring, n int) (take func(int) ([]byte, int), stop func()) {
	records := make(chan record, hopDepth)
	go func() { // ends with n; stop takes what was not taken
		defer close(records)
		for range n {
			records <- record{}
		}
	}()
	var batch []byte
	take = func(room int) ([]byte, int) {
		batch = batch[:0]
		k := min(room, packets.perBatch(), max(1, len(records)))
		for range k {
			<-records
			b, _ := packets.take(1)
			batch = append(batch, b...)
		}
		return batch, k
	}
	stop = func() {
		for range records {
		}
	}
	return take, stop
}

// readAcks reads once; it returns how many exchanges ended and the PUBRELs that
// are owed.
func (c *Client) readAcks() (ended int, releases []byte, err error) {
	if err := c.in.fill(); err != nil {
		return 0, nil, err
	}
	for {
		packet, body, err := c.in.next()
		if err != nil || packet == nil {
			return ended, releases, err
		}
		switch packet[0] >> 4 {
		case typePuback, typePubcomp:
			ended++
		case typePubrec:
			a := ack(typePubrel, packet[body:])
			releases = append(releases, a[:]...)
		}
	}
}

// Receive subscribes and returns when n messages have come; at QoS 1 the acks of
// a read leave in one write.
func (c *Client) Receive(filter string, qos byte, n int) error {
	subscribe := append([]byte{typeSubscribe<<4 | 2, byte(5 + len(filter)), 0, 1, 0, byte(len(filter))}, filter...)
	if _, err := c.conn.Write(append(subscribe, qos)); err != nil {
		return err
	}
	deliver, finish := func() {}, func() {}
	if c.hop {
		deliver, finish = hopDeliver()
	}
	defer finish()
	var acks []byte
	for got := 0; got < n; {
		if err := c.in.fill(); err != nil {
			return err
		}
		acks = acks[:0]
		for {
			packet, body, err := c.in.next()
			if err != nil {
				return err
			}
			if packet == nil {
				break
			}
			if packet[0]>>4 != typePublish {
				continue
			}
			got++
			deliver()
			if packet[0]&6 != 0 {
				a := ack(typePuback, packet[body+2+int(packet[body])<<8+int(packet[body+1]):])
				acks = append(acks, a[:]...)
			}
		}
		if len(acks) > 0 {
			if _, err := c.conn.Write(acks); err != nil {
				return err
			}
		}
	}
	return nil
}

// hopDeliver sends a record to a consumer; finish waits until it has all.
func hopDeliver() (deliver, finish func()) {
	records, ended := make(chan record, hopDepth), make(chan struct{})
	go func() { // ends when finish closes the channel
		defer close(ended)
		for range records {
		}
	}()
	return func() { records <- record{} }, func() { close(records); <-ended }
}
