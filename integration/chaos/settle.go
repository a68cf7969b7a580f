package chaos

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/integration/broker"
)

// settle ends the faults and waits until everything is through.
func (r *run) settle() error {
	for _, p := range r.proxies {
		p.soothe()
	}
	if err := r.awaitFlow(); err != nil {
		return err
	}
	if err := r.pub.stop(); err != nil {
		return err
	}
	if err := r.awaitEnd(); err != nil {
		return err
	}
	if err := r.rec.stop(); err != nil {
		return err
	}
	if err := r.askBroker(); err != nil {
		return err
	}
	return r.checkStores()
}

// askBroker goes on with the receiver's session and counts what the broker sends:
// what the receiver never acknowledged.
func (r *run) askBroker() error {
	var owed atomic.Int64
	count := func(p mqtt.PacketInfo) {
		if !p.Sent && p.Type == codec.PUBLISH {
			owed.Add(1)
		}
	}
	conn, err := mqtt.Connect(context.Background(), r.broker.URL(broker.TCP), mqtt.WithPacketHook(count),
		mqtt.WithVersions(r.config.Version), mqtt.WithClientID(clientID("receiver")), mqtt.WithSession(time.Hour), mqtt.WithReceiveMaximum(receiveMaximum))
	if err != nil {
		return err
	}
	pause(context.Background(), lull)
	conn.Abort()
	<-conn.Done()
	r.result.Owed = int(owed.Load())
	return nil
}

// awaitFlow waits until the receiver got on every lane what was published after
// the faults. It has the link then that it keeps, and what comes later comes in
// order, the end marks last.
func (r *run) awaitFlow() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for lane := range lanes {
		calm, _ := r.watch.newest(lane)
		for {
			if _, received := r.watch.newest(lane); received > calm {
				break
			}
			if !pause(ctx, pollEvery) {
				return fmt.Errorf("nothing new came on lane %d within %v after the faults", lanes[lane], patience)
			}
		}
	}
	return nil
}

// awaitEnd waits until the receiver and the witness have the end marks, and
// nothing came for a while.
func (r *run) awaitEnd() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	count, since := 0, time.Now()
	for {
		now, missing := r.arrived()
		if now > count || missing != "" {
			count, since = now, time.Now()
		}
		if time.Since(since) >= lull {
			return nil
		}
		if !pause(ctx, pollEvery) {
			return fmt.Errorf("it did not end within %v: %s%d messages came", patience, missing, count)
		}
	}
}

// arrived counts what came to the receiver and the witness, and says who has no
// end mark yet.
func (r *run) arrived() (count int, missing string) {
	for lane := range lanes {
		for _, who := range []struct {
			name     string
			progress func(lane int) (count int, ended bool)
		}{{"receiver", r.watch.progress}, {"witness", r.witness.progress}} {
			n, ended := who.progress(lane)
			count += n
			if !ended {
				missing += fmt.Sprintf("no end of lane %d at the %s, ", lanes[lane], who.name)
			}
		}
	}
	return count, missing
}
