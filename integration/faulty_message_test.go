package integration

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/integration/broker"
	"github.com/nats-io/nats-server/v2/server"
)

// natsClient is a connection of NATS's own protocol, whose subjects need not be UTF-8.
type natsClient struct {
	t  *testing.T
	nc net.Conn
	r  *bufio.Reader
}

func dialNATS(t *testing.T, address string) *natsClient {
	t.Helper()
	nc, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(4 * patience))
	c := &natsClient{t, nc, bufio.NewReader(nc)}
	c.readLine()
	fmt.Fprint(nc, "CONNECT {\"verbose\":false}\r\n")
	return c
}

func (c *natsClient) readLine() {
	c.t.Helper()
	if _, err := c.r.ReadString('\n'); err != nil {
		c.t.Fatal(err)
	}
}

// publish returns when the server has taken the message.
func (c *natsClient) publish(subject, payload string) {
	c.t.Helper()
	fmt.Fprintf(c.nc, "PUB %s %d\r\n%s\r\nPING\r\n", subject, len(payload), payload)
	c.readLine()
}

// TestNATSForwardsTopicsThatAreNotUTF8 has nats-server forward messages whose topics no
// MQTT client may accept. Each ends the link; links that lived well are counted by no
// limit, and after three young ones the messages are dropped, each with an event.
func TestNATSForwardsTopicsThatAreNotUTF8(t *testing.T) {
	var address string
	b := broker.StartNATS(t, broker.NATSOptions{Configure: func(o *server.Options) { address = fmt.Sprintf("127.0.0.1:%d", o.Port) }})
	for _, tt := range []struct {
		name        string
		stable      time.Duration
		rounds      int
		faulty, cut int
	}{
		{"links that count as stable", time.Nanosecond, 6, 0, 6},
		{"young links", time.Hour, 6, 3, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := connect(t, b, broker.V311, broker.TCP, mqtt.WithStableAfter(tt.stable))
			events := conn.Watch(t.Context())
			ch := subscribe(t, conn, "n/#", mqtt.QoS(0))
			nats := dialNATS(t, address)
			faulty, cut := 0, 0
			for range tt.rounds {
				nats.publish("n.\xff", "bad")
				for told := false; !told; {
					switch ev, _ := within(t, "an event", events); ev := ev.(type) {
					case mqtt.FaultyMessage:
						faulty, told = faulty+1, true
					case mqtt.Disconnected:
						if _, ok := errors.AsType[*mqtt.ProtocolError](ev.Err); !ok {
							t.Errorf("Disconnected by %v", ev.Err)
						}
						cut++
					case mqtt.Connected:
						told = cut > 0
					case mqtt.Closed:
						t.Fatalf("the Conn ended: %v", ev.Err)
					}
				}
				good(t, nats, ch)
			}
			if faulty != tt.faulty || cut != tt.cut {
				t.Errorf("%d passed over and %d links lost, want %d and %d", faulty, cut, tt.faulty, tt.cut)
			}
		})
	}
}

// good publishes good messages until one arrives: a link that is new may not have
// subscribed yet.
func good(t *testing.T, nats *natsClient, ch <-chan mqtt.Message) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for {
		nats.publish("n.good", "good")
		select {
		case m := <-ch:
			if m.Topic != "n/good" {
				t.Errorf("got %q", m.Topic)
			}
			return
		case <-tick.C:
		case <-end:
			t.Fatal("no good message arrived")
		}
	}
}
