package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/integration/broker"
)

// TestNoWillAfterAnOrderlyEnd ends Conns, and links by Reconnect, while the broker
// sends them 10,000 messages of 2,000 bytes a second. The broker publishes no will,
// and has the QoS 0 message that was published last, if its Future says so.
func TestNoWillAfterAnOrderlyEnd(t *testing.T) {
	atLastWordBrokers(t, func(t *testing.T, figures figureTable, b, front *broker.Broker) {
		seen := watchTopics(t, b, willTopic+"#", lastTopic+"#")
		for qos := range mqtt.QoS(2) {
			t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
				startFlood(t, b, qos)
				forEachTransport(t, front, func(t *testing.T, over broker.Transport) {
					var cells []*willCell
					for _, e := range append(endings, ending{name: "Reconnect"}) {
						cells = append(cells, &willCell{seen: seen, front: front, over: over, qos: qos, ending: e})
					}
					for _, c := range cells {
						c.run(t)
					}
					awaitWills(t, cells[0])
					for _, c := range cells {
						row, text := fmt.Sprintf("QoS %d, %s", qos, c.ending.name), c.text()
						figures.note(row, front, over, text)
						if c.wills()+c.lost() > 0 {
							t.Errorf("%s: %s", row, text)
						}
					}
				})
			})
		}
	})
}

const (
	willTopic = "wills/" // and the client identifier
	lastTopic = "last/"

	// floodTaken is how many messages a victim takes before its link ends.
	floodTaken = 300
	// willLull is how long a late will is waited for.
	willLull = 200 * time.Millisecond
)

// victim is a Conn with a will that takes the flood's messages.
type victim struct {
	*mqtt.Conn
	id     string
	cancel context.CancelFunc // ends Connect's context
	taken  chan struct{}      // receives one for every floodTaken messages, unless it holds one
	work   sync.WaitGroup     // takes messages until the Conn ends
}

// startVictim returns when the flood flows.
func startVictim(t *testing.T, front *broker.Broker, v broker.Version, over broker.Transport, id string, qos mqtt.QoS) *victim {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := dialIn(ctx, front, v, over, mqtt.WithClientID(id),
		mqtt.WithWill(mqtt.Will{Message: mqtt.Message{Topic: willTopic + id, Payload: []byte("gone"), QoS: 1}}),
		mqtt.WithSubscription(floodTopic, qos),
		mqtt.WithReceiveMaximum(65535)) // Mosquitto 2.0.11 sends more than a smaller one allows
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	c := &victim{Conn: conn, id: id, cancel: cancel, taken: make(chan struct{}, 1)}
	messages := conn.Subscription(floodTopic).C()
	c.work.Go(func() {
		n := 0
		for range messages {
			if n++; n%floodTaken == 0 {
				select {
				case c.taken <- struct{}{}:
				default:
				}
			}
		}
	})
	within(t, "the flood", c.taken)
	return c
}

// say publishes the last message before an end.
func (c *victim) say(ctx context.Context) *mqtt.Future {
	return c.Publish(ctx, mqtt.Message{Topic: lastTopic + c.id})
}

// abort makes the broker publish the will.
func (c *victim) abort() {
	c.Abort()
	c.work.Wait()
	c.cancel()
}

// willCell is a cell of TestNoWillAfterAnOrderlyEnd.
type willCell struct {
	seen   *topicWatch
	front  *broker.Broker
	over   broker.Transport
	qos    mqtt.QoS
	ending ending // one without a function is Reconnect

	ids, said []string      // the victims, and those whose last message has a nil Future
	longest   time.Duration // an end took
}

// run ends as many victims as there are rounds.
func (c *willCell) run(t *testing.T) {
	t.Helper()
	for round := range lastWordRounds() {
		v := c.startVictim(t, round)
		last := v.say(t.Context())
		begin := time.Now()
		if c.ending.end != nil {
			if err := c.ending.end(v.Conn, v.cancel); err != nil {
				t.Errorf("%s: %v", c.ending.name, err)
			}
		} else {
			c.reconnect(t, v)
		}
		c.longest = max(c.longest, time.Since(begin))
		v.abort() // which only a victim that has reconnected notices
		c.ids = append(c.ids, v.id)
		if last.Err() == nil {
			c.said = append(c.said, v.id)
		}
	}
}

func (c *willCell) startVictim(t *testing.T, round int) *victim {
	t.Helper()
	id := fmt.Sprintf("%s-%s-%d-%s-%d", c.front.Name(), c.over, c.qos, c.ending.name, round)
	v := lastWordVersion(c.front, c.over, max(round, 0))
	return startVictim(t, c.front, v, c.over, strings.ReplaceAll(id, " ", "-"), c.qos)
}

// reconnect returns when the next link is up. That the flood flows over it is not
// waited for: mochi 2.7.9 at times ends the old link's subscriptions only then, and
// the new link's with them.
func (c *willCell) reconnect(t *testing.T, v *victim) {
	t.Helper()
	if err := v.Reconnect(); err != nil {
		t.Fatal(err)
	}
	awaitLink(t, v.Conn, 2)
}

// awaitWills has one more victim abort, and returns when its will and whatever else
// the broker had to publish came.
func awaitWills(t *testing.T, c *willCell) {
	t.Helper()
	v := c.startVictim(t, -1)
	v.abort()
	c.seen.await(t, willTopic+v.id)
	c.seen.settle()
}

// wills counts wills after an orderly end. One that has reconnected has one more will.
func (c *willCell) wills() (n int) {
	for _, id := range c.ids {
		came := c.seen.count(willTopic + id)
		if c.ending.end == nil {
			came = max(0, came-1)
		}
		n += came
	}
	return n
}

// lost counts the last messages that the broker does not have.
func (c *willCell) lost() (n int) {
	for _, id := range c.said {
		n += 1 - c.seen.count(lastTopic+id)
	}
	return n
}

func (c *willCell) text() string {
	return fmt.Sprintf("will %d of %d, lost %d of %d, longest %v", c.wills(), len(c.ids), c.lost(), len(c.said), c.longest.Round(time.Millisecond))
}

// awaitLink waits until a Conn is connected by the link with a number.
func awaitLink(t *testing.T, conn *mqtt.Conn, no uint32) {
	t.Helper()
	for {
		ev, ok := within(t, "the next link", conn.Events())
		if !ok {
			t.Fatalf("the Conn ended: %v", conn.Err())
		}
		if up, is := ev.(mqtt.Connected); is && up.Link >= no {
			return
		}
	}
}

// topicWatch counts the messages that a broker publishes, by topic.
type topicWatch struct {
	mu    sync.Mutex
	came  map[string]int // guarded by mu
	fresh chan struct{}  // receives one when a message came, unless it holds one
}

// watchTopics counts what comes for filters until the test ends.
func watchTopics(t *testing.T, b *broker.Broker, filters ...string) *topicWatch {
	t.Helper()
	w := &topicWatch{came: map[string]int{}, fresh: make(chan struct{}, 1)}
	conn := connect(t, b, broker.V311, broker.TCP)
	for _, filter := range filters {
		sub, err := conn.Subscribe(t.Context(), filter, mqtt.QoS(1))
		if err != nil {
			t.Fatal(err)
		}
		go func() { // ends with conn, which the test's end closes
			for m := range sub.C() {
				w.see(m.Topic)
			}
		}()
	}
	return w
}

func (w *topicWatch) see(topic string) {
	w.mu.Lock()
	w.came[topic]++
	w.mu.Unlock()
	select {
	case w.fresh <- struct{}{}:
	default:
	}
}

func (w *topicWatch) count(topic string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.came[topic]
}

// await waits for a message on a topic.
func (w *topicWatch) await(t *testing.T, topic string) {
	t.Helper()
	for w.count(topic) == 0 {
		within(t, "a message on "+topic, w.fresh)
	}
}

// settle returns when nothing has come for a while.
func (w *topicWatch) settle() {
	for {
		select {
		case <-w.fresh:
		case <-time.After(willLull):
			return
		}
	}
}
