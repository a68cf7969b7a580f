package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/store/bolt"
)

const (
	// pace is the time between bursts of a lane. A slow line carries some 600 messages a
	// second, for up to 90 s: at more than 1,300 the rest comes to more than 65,535 in flight,
	// where Mosquitto 2.0.11 gives out packet identifiers that are in use.
	pace      = 8 * time.Millisecond
	burst     = 4   // messages published at once
	unstored  = 64  // publishes of a lane that may wait for the disk
	unsettled = 512 // publishes of a lane that may wait for the server
)

// numbered is a publish in flight.
type numbered struct {
	n        int
	f        *mqtt.Future
	promised bool
}

// publish publishes numbers until it is told to stop, then waits until everything is
// through, what an earlier process left included, and ends the lanes. Told to leave,
// it ends the Conn while it publishes.
func (s *settings) publish(told orders, sessions *bolt.Store) error {
	scope, cancel := context.WithCancel(context.Background())
	defer cancel()
	// Mosquitto saves no session without a subscription.
	d := newDeparture(s)
	conn, err := s.connect(scope, sessions, mqtt.WithSubscription("chaos/none"), mqtt.WithPacketHook(d.see))
	if err != nil {
		return err
	}
	d.watch(conn)
	var work sync.WaitGroup
	errs := make([]error, len(lanes)+1)
	for lane := range lanes {
		work.Go(func() { errs[lane] = s.publishLane(told.stop, conn, lane) })
	}
	left := make(chan struct{})
	work.Go(func() { // ends when told anything
		select {
		case way := <-told.leave:
			close(left)
			errs[len(lanes)] = d.leave(conn, cancel, way)
		case <-told.stop.Done():
		case <-conn.Done():
			errs[len(lanes)] = fmt.Errorf("the Conn ended by itself: %w", conn.Err())
		}
	})
	work.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	select {
	case <-left:
		return nil
	default:
	}
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
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

// publishLane publishes until stop or the Conn ends, and returns once all that is
// settled. What was promised and is kept in the store when the Conn ends is for a
// later process.
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
				p.promised = true
				promised.write(p.n)
			}
			stored <- p
		}
	})
	work.Go(func() { // ends with stored
		for p := range stored {
			if err := p.f.Wait(context.Background()); err != nil && !leftBehind(err, p.promised) {
				failed.write(p.n)
				fmt.Fprintf(os.Stderr, "publish of %d failed: %v\n", p.n, err)
			}
		}
	})
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 0; stop.Err() == nil && conn.State() != mqtt.StateClosed; {
		<-tick.C
		for range burst {
			m := mqtt.Message{Topic: topic(lane), Payload: payload(number(s.Incarnation, n)), QoS: lanes[lane]}
			fresh <- numbered{n: number(s.Incarnation, n), f: conn.Publish(context.Background(), m)}
			n++
		}
	}
	close(fresh)
	work.Wait()
	return nil
}

// leftBehind reports whether a Future failed as it may when its Conn ends: the store
// has the message, or had not got it.
func leftBehind(err error, promised bool) bool {
	e, ok := errors.AsType[*mqtt.PublishError](err)
	return errors.Is(err, mqtt.ErrClosed) && (!promised || ok && e.Kept)
}
