package chaos

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/store/bolt"
)

const (
	pace      = 4 * time.Millisecond // between bursts of a lane
	burst     = 4                    // messages published at once
	unstored  = 64                   // publishes of a lane that may wait for the disk
	unsettled = 512                  // publishes of a lane that may wait for the server
)

// numbered is a publish under way.
type numbered struct {
	n int
	f *mqtt.Future
}

// publish publishes numbers until stop ends, then waits until everything is
// through, what an earlier process left included, and ends the lanes.
func (s *settings) publish(stop context.Context, sessions *bolt.Store) error {
	// Mosquitto saves no session without a subscription.
	conn, err := s.connect(sessions, mqtt.WithSubscription("chaos/none"))
	if err != nil {
		return err
	}
	var work sync.WaitGroup
	errs := make([]error, len(lanes))
	for lane := range lanes {
		work.Go(func() { errs[lane] = s.publishLane(stop, conn, lane) })
	}
	work.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := conn.Flush(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	for lane, qos := range lanes {
		m := mqtt.Message{Topic: topic(lane), Payload: payload(endMark), QoS: qos}
		if err := conn.Publish(ctx, m).Wait(ctx); err != nil {
			return fmt.Errorf("end mark: %w", err)
		}
	}
	return conn.Disconnect(ctx)
}

// publishLane publishes until stop ends, and returns once all that is settled.
func (s *settings) publishLane(stop context.Context, conn *mqtt.Conn, lane int) error {
	promised, err := createNote(s.Dir, "promised", lane, s.Incarnation)
	if err != nil {
		return err
	}
	defer promised.Close()
	failed, err := createNote(s.Dir, "failed", lane, s.Incarnation)
	if err != nil {
		return err
	}
	defer failed.Close()

	fresh, stored := make(chan numbered, unstored), make(chan numbered, unsettled)
	var work sync.WaitGroup
	work.Go(func() { // ends with fresh
		defer close(stored)
		for p := range fresh {
			if err := p.f.WaitStored(context.Background()); err == nil {
				promised.write(p.n)
			}
			stored <- p
		}
	})
	work.Go(func() { // ends with stored
		for p := range stored {
			if err := p.f.Wait(context.Background()); err != nil {
				failed.write(p.n)
				fmt.Fprintf(os.Stderr, "publish of %d failed: %v\n", p.n, err)
			}
		}
	})
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; stop.Err() == nil; {
		<-tick.C
		for range burst {
			m := mqtt.Message{Topic: topic(lane), Payload: payload(number(s.Incarnation, n)), QoS: lanes[lane]}
			fresh <- numbered{number(s.Incarnation, n), conn.Publish(context.Background(), m)}
			n++
		}
	}
	close(fresh)
	work.Wait()
	return nil
}
