package mqtt_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/internal/chance"
)

// Messages for a kept session, subscribes, unsubscribes, detached subscriptions and
// cuts. Every message that the server had for the client is delivered once, or
// counted as unmatched or dropped; each subscription has its own in the order of
// arrival.
func TestBacklogAtRandom(t *testing.T) {
	seed := chance.Seed(t)
	for round := range uint64(chance.Rounds(300, 30_000)) {
		if ok := t.Run("", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomBacklog(t, chance.Stream(seed, round)) })
		}); !ok {
			t.Fatalf("round %d", round)
		}
	}
}

// backlogRun is one round.
type backlogRun struct {
	*keptSession
	conn *mqtt.Conn
	rnd  *rand.Rand
	sent int
	subs [4]*mqtt.Subscription // by filter; nil when there is none
	ends [4]context.CancelFunc

	all  []*mqtt.Subscription
	work sync.WaitGroup

	mu   sync.Mutex
	seen map[int]int // how often each message was delivered
}

// randomBacklog lives one Conn. In every second round nothing is unsubscribed and
// everything is claimed in time, so that nothing may be missing.
func randomBacklog(t *testing.T, rnd *rand.Rand) {
	calm := rnd.IntN(2) == 0
	b := &backlogRun{keptSession: keepSession(t, versions[rnd.IntN(3)], "f/0", "f/1", "f/2", "f/3"), rnd: rnd, seen: map[int]int{}}
	for range rnd.IntN(60) {
		b.arrive()
	}
	opts := []mqtt.ConnectOption{mqtt.WithBacklogGrace(10 * time.Second)}
	if calm {
		opts[0] = mqtt.WithBacklogGrace(time.Hour)
	}
	if i := rnd.IntN(8); i < 4 {
		opts = append(opts, mqtt.WithSubscription(fmt.Sprint("f/", i), mqtt.QoS(2)))
		b.conn = b.connect(opts...)
		b.follow(i, b.conn.Subscription(fmt.Sprint("f/", i)), nil)
	} else {
		b.conn = b.connect(opts...)
	}
	dropped := 0
	events := b.conn.Watch(t.Context())
	b.work.Go(func() {
		for e := range events {
			if d, ok := e.(mqtt.MessageDropped); ok {
				dropped += int(d.Total)
			}
		}
	})
	for range 30 {
		synctest.Wait() // so that no acknowledgement is lost in a cut, which would double QoS 1
		b.step(calm)
	}
	for i := range b.subs {
		b.subscribe(i)
	}
	b.allAcked()
	unmatched := int(b.conn.Stats().Unmatched)
	b.conn.Close()
	b.work.Wait()
	for _, s := range b.all {
		dropped += int(s.Stats().Dropped)
	}
	for n, times := range b.seen {
		if times > 1 {
			t.Errorf("message %d was delivered %d times", n, times)
		}
	}
	if len(b.seen)+unmatched+dropped != b.sent || calm && unmatched+dropped > 0 {
		t.Errorf("sent %d: delivered %d, unmatched %d, dropped %d, calm %v", b.sent, len(b.seen), unmatched, dropped, calm)
	}
}

// step does one thing.
func (b *backlogRun) step(calm bool) {
	i := b.rnd.IntN(4)
	switch n := b.rnd.IntN(20); {
	case n < 9:
		for range 1 + b.rnd.IntN(20) {
			b.arrive()
		}
	case n < 12:
		b.subscribe(i)
	case n < 13 && !calm && b.subs[i] != nil:
		b.subs[i].Unsubscribe(b.t.Context())
		b.subs[i] = nil
	case n < 13 && !calm:
		b.conn.Unsubscribe(b.t.Context(), fmt.Sprint("f/", i))
	case n < 15 && b.ends[i] != nil:
		b.ends[i]() // the server keeps the filter
		b.subs[i], b.ends[i] = nil, nil
	case n < 16:
		b.srv.Cut("c")
	default:
		time.Sleep(time.Duration(b.rnd.IntN(6000)) * time.Millisecond)
	}
}

// arrive publishes the next message to a filter that the server holds.
func (b *backlogRun) arrive() {
	synctest.Wait()
	if filters := held(b.srv); len(filters) > 0 {
		publish(b.t, b.srv, filters[b.rnd.IntN(len(filters))], byte(1+b.rnd.IntN(2)), strconv.Itoa(b.sent))
		b.sent++
	}
}

// subscribe subscribes to f/i, unless that is done.
func (b *backlogRun) subscribe(i int) {
	if b.subs[i] != nil {
		return
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	s, err := b.conn.Subscribe(ctx, fmt.Sprint("f/", i), mqtt.QoS(2), mqtt.WithBuffer(b.rnd.IntN(3)))
	if err != nil {
		b.t.Fatal(err)
	}
	b.follow(i, s, cancel)
}

// follow reads s until it ends, a bit slowly.
func (b *backlogRun) follow(i int, s *mqtt.Subscription, end context.CancelFunc) {
	b.subs[i], b.ends[i] = s, end
	b.all = append(b.all, s)
	slow := time.Duration(b.rnd.IntN(3)) * 10 * time.Millisecond
	ch := s.C()
	b.work.Go(func() {
		last := -1
		for m := range ch {
			n, err := strconv.Atoi(string(m.Payload))
			if err != nil || n <= last {
				b.t.Errorf("%s: %q after %d", m.Topic, m.Payload, last)
			}
			last = n
			b.mu.Lock()
			b.seen[n]++
			b.mu.Unlock()
			time.Sleep(slow)
		}
	})
}
