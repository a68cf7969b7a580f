package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/store/bolt"
)

// receive notes what it is handed until stop ends. The body of the loop notes a
// message before its end acknowledges it.
func (s *settings) receive(stop context.Context, sessions *bolt.Store) error {
	anew, err := createNote(s.Dir, "anew", 1, s.Incarnation) // of the lane of QoS 2
	if err != nil {
		return err
	}
	defer anew.Close()
	answered, err := createNote(s.Dir, "answered", 1, s.Incarnation)
	if err != nil {
		return err
	}
	defer answered.Close()
	released, err := createNote(s.Dir, "released", 1, s.Incarnation)
	if err != nil {
		return err
	}
	defer released.Close()
	seen := newExchanges(anew.write)
	seen.answered, seen.released = answered.write, released.write
	opts := seen.options()
	for lane, qos := range lanes {
		opts = append(opts, mqtt.WithSubscription(topic(lane), qos))
	}
	conn, err := s.connect(sessions, opts...)
	if err != nil {
		return err
	}
	var work sync.WaitGroup
	errs := make([]error, len(lanes))
	for lane := range lanes {
		work.Go(func() { errs[lane] = s.receiveLane(conn.Subscription(topic(lane)), lane) })
	}
	select {
	case <-stop.Done():
	case <-conn.Done():
		work.Wait()
		return fmt.Errorf("the Conn ended by itself: %w", conn.Err())
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = conn.Drain(ctx)
	work.Wait()
	for _, failed := range errs {
		if failed != nil {
			return failed
		}
	}
	return err
}

// slowBody is how long the receiver has some messages in hand.
const slowBody = 5 * time.Millisecond

func (s *settings) receiveLane(sub *mqtt.Subscription, lane int) error {
	received, err := createNote(s.Dir, "received", lane, s.Incarnation)
	if err != nil {
		return err
	}
	defer received.Close()
	for m := range sub.All() {
		n, sound := parse(m.Payload)
		if !sound || m.QoS != lanes[lane] {
			return fmt.Errorf("not a message of this lane: QoS %d, %q", m.QoS, m.Payload)
		}
		if n%64 == 0 {
			time.Sleep(slowBody) // an acknowledgement before its end would leave meanwhile
		}
		received.write(n)
	}
	return nil
}
