package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// watch follows what the processes note.
type watch struct {
	run *run

	mu       sync.Mutex
	promised [len(lanes)]notes     // guarded by mu
	failed   [len(lanes)]notes     // guarded by mu
	received [len(lanes)]notes     // guarded by mu
	anew     notes                 // guarded by mu; what the broker doubled at QoS 2
	answered notes                 // guarded by mu; what a receiver answered by PUBREC
	released notes                 // guarded by mu; what the broker sent a PUBREL for
	fresh    [len(lanes)]time.Time // guarded by mu; when the receiver noted something last
	longest  time.Duration         // guarded by mu; in which the receiver noted nothing
}

func newWatch(r *run) *watch {
	w := &watch{run: r}
	for kind, f := range map[string]*notes{"anew": &w.anew, "answered": &w.answered, "released": &w.released} {
		*f = notes{dir: r.config.Dir, kind: kind, lane: 1, incarnation: 1}
	}
	for lane := range lanes {
		for kind, f := range map[string]*notes{"promised": &w.promised[lane], "failed": &w.failed[lane], "received": &w.received[lane]} {
			*f = notes{dir: r.config.Dir, kind: kind, lane: lane, incarnation: 1}
		}
	}
	return w
}

// follow follows the notes until ctx ends, and then to their end.
func (w *watch) follow(ctx context.Context) error {
	begin := time.Now()
	told := begin
	w.begin(begin)
	for going := true; going; {
		going = pause(ctx, pollEvery)
		if err := w.poll(); err != nil {
			return err
		}
		now := time.Now()
		if now.Sub(told) >= progressEvery {
			fmt.Fprintln(w.run.config.Progress, w.run.progressLine(begin))
			told = now
		}
	}
	return nil
}

func (w *watch) begin(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for lane := range lanes {
		w.fresh[lane] = now
	}
}

func (w *watch) poll() error {
	pub, rec := w.run.pub.latest(), w.run.rec.latest()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range []*notes{&w.anew, &w.answered, &w.released} {
		if err := f.follow(rec); err != nil {
			return err
		}
	}
	for lane := range lanes {
		before := len(w.received[lane].sights)
		for _, err := range []error{w.promised[lane].follow(pub), w.failed[lane].follow(pub), w.received[lane].follow(rec)} {
			if err != nil {
				return err
			}
		}
		w.listen(lane, len(w.received[lane].sights) > before)
	}
	return nil
}

// listen measures how long nothing came on a lane, also while that goes on. mu is held.
func (w *watch) listen(lane int, came bool) {
	now := time.Now()
	if came || !w.received[lane].ended {
		w.longest = max(w.longest, now.Sub(w.fresh[lane]))
	}
	if came {
		w.fresh[lane] = now
	}
}

// figures is what progress shows.
type figures struct {
	promised, received int
	longest            time.Duration
}

func (w *watch) figures() figures {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := figures{longest: w.longest}
	for lane := range lanes {
		f.promised += len(w.promised[lane].sights)
		f.received += len(w.received[lane].sights)
	}
	return f
}

// progress returns how much the receiver noted on a lane, and whether the end mark
// was among it.
func (w *watch) progress(lane int) (count int, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.received[lane].sights), w.received[lane].ended
}

// newest returns the latest number on a lane that the publisher promised and that
// the receiver noted.
func (w *watch) newest(lane int) (promised, received int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return newest(w.promised[lane].sights), newest(w.received[lane].sights)
}

func newest(sights []sight) int {
	if len(sights) == 0 {
		return 0
	}
	return sights[len(sights)-1].n
}
