package chaos

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/backoff"
)

// witness sees what the broker hands to a subscriber that nothing happens to but
// the broker's restarts.
type witness struct {
	conn *mqtt.Conn
	work sync.WaitGroup // one loop for each lane

	mu     sync.Mutex
	sights [len(lanes)][]sight // guarded by mu
	ended  [len(lanes)]bool    // guarded by mu; the end mark came
	anew   []sight             // guarded by mu; what the broker doubled
	err    error               // guarded by mu; what it could not make sense of
}

// startWitness returns when the broker has the subscriptions.
func startWitness(ctx context.Context, url string, v mqtt.Version) (*witness, error) {
	w := new(witness)
	conn, err := mqtt.Connect(context.Background(), url, append(newExchanges(w.noteAnew).options(),
		mqtt.WithVersions(v), mqtt.WithClientID(clientID("witness")), mqtt.WithSession(time.Hour), mqtt.WithReceiveMaximum(receiveMaximum),
		mqtt.WithBackoff(backoff.Exponential{Base: 20 * time.Millisecond, Max: 200 * time.Millisecond}))...)
	if err != nil {
		return nil, err
	}
	w.conn = conn
	for lane, qos := range lanes {
		sub, err := conn.Subscribe(ctx, topic(lane), qos)
		if err != nil {
			w.close()
			return nil, err
		}
		w.work.Go(func() { w.watch(sub, lane) })
	}
	return w, nil
}

func (w *witness) noteAnew(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.anew = append(w.anew, sight{n: n})
}

func (w *witness) watch(sub *mqtt.Subscription, lane int) {
	for m := range sub.All() {
		n, sound := parse(m.Payload)
		w.mu.Lock()
		w.sights[lane] = append(w.sights[lane], sight{n: n})
		w.ended[lane] = w.ended[lane] || n == endMark
		if !sound {
			w.err = fmt.Errorf("the witness got %q on %s", m.Payload, m.Topic)
		}
		w.mu.Unlock()
	}
}

// seen returns what came on a lane so far.
func (w *witness) seen(lane int) []sight {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sights[lane])
}

// progress returns how much came on a lane, and whether the end mark did.
func (w *witness) progress(lane int) (count int, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.sights[lane]), w.ended[lane]
}

// close ends the witness and says what was wrong with what it saw.
func (w *witness) close() error {
	w.conn.Close()
	w.work.Wait()
	return w.err
}
