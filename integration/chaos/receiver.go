package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/store/bolt"
)

// receive notes what it is handed until it is told to stop or to leave. The body of
// the loop notes a message before its end acknowledges it.
func (s *settings) receive(told orders, sessions *bolt.Store) error {
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
	d := newDeparture(s)
	opts := []mqtt.ConnectOption{mqtt.WithPacketPayload(), mqtt.WithPacketHook(func(p mqtt.PacketInfo) {
		seen.see(p)
		d.see(p)
	})}
	for lane, qos := range lanes {
		opts = append(opts, mqtt.WithSubscription(topic(lane), qos))
	}
	scope, cancel := context.WithCancel(context.Background())
	defer cancel()
	conn, err := s.connect(scope, sessions, opts...)
	if err != nil {
		return err
	}
	d.watch(conn)
	var work sync.WaitGroup
	errs := make([]error, len(lanes)+1)
	for lane := range lanes {
		work.Go(func() { errs[lane] = s.receiveLane(conn.Subscription(topic(lane)), lane) })
	}
	if s.Refused {
		work.Go(func() { errs[len(lanes)] = s.subscribeRefused(conn) })
	}
	select {
	case way := <-told.leave:
		err := d.leave(conn, cancel, way)
		work.Wait()
		return errors.Join(append(errs, err)...)
	case <-told.stop.Done():
	case <-conn.Done():
		work.Wait()
		return fmt.Errorf("the Conn ended by itself: %w", conn.Err())
	}
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	err = conn.Drain(ctx)
	work.Wait()
	return cmp.Or(append(errs, err)...)
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
