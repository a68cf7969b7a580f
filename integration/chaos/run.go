package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/millrace/mqtt/integration/broker"
	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

// run is one run of the whole thing.
type run struct {
	config  Config
	broker  *broker.Broker
	proxies [2]*proxy // the publisher's and the receiver's
	pub     *process
	rec     *process
	witness *witness
	wills   *willWatch
	steady  sync.RWMutex // a process that leaves holds it for reading, a restart of the broker for writing
	watch   *watch
	result  Report
}

// Run publishes and receives under faults, and returns what became of it all. An
// error says that the run itself went wrong; what was lost is in the Report.
func Run(ctx context.Context, tb broker.TB, c Config) (Report, error) {
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	if c.Broker == "" {
		c.Broker = Mosquitto
	}
	r := &run{config: c}
	if err := r.startBroker(tb); err != nil {
		return r.result, err
	}
	defer r.closeProxies()
	if err := r.prepare(ctx); err != nil {
		return r.result, errors.Join(err, r.abandon())
	}
	watched := make(chan error, 1)
	watching, stopWatching := context.WithCancel(context.Background())
	go func() { watched <- r.watch.follow(watching) }() // ends with watching, which is waited for
	err := r.rage(ctx, tb)
	if err == nil {
		err = r.settle()
	}
	stopWatching()
	err = errors.Join(err, <-watched, r.witness.close())
	r.wills.close()
	r.pub.kill() // if it went wrong; else they have ended
	r.rec.kill()
	return r.result, errors.Join(err, r.count(tb))
}

// startBroker starts the broker that was asked for.
func (r *run) startBroker(tb broker.TB) error {
	switch r.config.Broker {
	case Mosquitto:
		r.broker = broker.StartMosquitto(tb, broker.MosquittoOptions{
			MaxInflight: -1, // see receiveMaximum
			Extra:       []string{"autosave_interval 5"},
		})
	case Mochi:
		r.broker = broker.StartMochi(tb, broker.MochiOptions{Tapes: r.config.Dir})
	default:
		return fmt.Errorf("no broker %q", r.config.Broker)
	}
	return nil
}

// prepare starts everything but the faults.
func (r *run) prepare(ctx context.Context) (err error) {
	url := r.broker.URL(r.config.Over)
	if r.witness, err = startWitness(ctx, r.broker.URL(broker.TCP), r.config.Version); err != nil {
		return err
	}
	if r.wills, err = startWillWatch(ctx, r.broker.URL(broker.TCP), r.config.Version); err != nil {
		return err
	}
	processes := make([]*process, 2)
	for i, role := range []string{"publisher", "receiver"} {
		if r.proxies[i], err = startProxy(role, url, r.config.Dir, r.rng(uint64(i))); err != nil {
			return err
		}
		processes[i] = &process{graceful: map[int]bool{}, wills: r.wills, settings: settings{
			Role: role, Version: r.config.Version, URL: r.proxies[i].url(url), Dir: r.config.Dir,
			Refused: r.config.Refused && r.config.Broker == Mosquitto,
		}}
		if r.broker.TLSConfig(r.config.Over) != nil {
			processes[i].settings.CAFile = r.broker.Certificates().CAFile
		}
	}
	r.pub, r.rec = processes[0], processes[1]
	// The broker keeps nothing for a receiver that it does not know yet.
	if err := r.introduceReceiver(ctx); err != nil {
		return err
	}
	r.watch = newWatch(r)
	if err := r.rec.start(); err != nil {
		return err
	}
	return r.pub.start()
}

func (r *run) rng(n uint64) *rand.Rand { return rand.New(rand.NewPCG(r.config.Seed, n)) }

// rage lets the faults loose for as long as was asked for.
func (r *run) rage(ctx context.Context, tb broker.TB) error {
	ctx, cancel := context.WithTimeout(ctx, r.config.Duration)
	defer cancel()
	var work sync.WaitGroup
	errs := make([]error, 2)
	for i, p := range []*process{r.pub, r.rec} {
		work.Go(func() { r.proxies[i].disturb(ctx, r.rng(uint64(2+i))) })
		work.Go(func() { r.proxies[i].slowLines(ctx, r.rng(uint64(7+i)), slowest(r.config.Duration)) })
		work.Go(func() {
			if errs[i] = p.disturb(ctx, r.rng(uint64(4+i)), r.proxies[i], &r.steady); errs[i] != nil {
				cancel()
			}
		})
	}
	if r.config.Broker == Mosquitto { // on this goroutine, which may call tb.Fatalf
		r.result.Restarts = r.disturbBroker(ctx, tb, r.rng(6))
	}
	work.Wait()
	return errors.Join(errs...)
}

// checkStores checks that the stores are sound and hold nothing any more.
func (r *run) checkStores() error {
	for _, p := range []*process{r.pub, r.rec} {
		left, err := storeContents(p.settings.Dir, p.settings.Role)
		if err != nil {
			return err
		}
		r.result.Records += left
	}
	return nil
}

// storeContents counts the records of a client in its store, Meta apart.
func storeContents(dir, role string) (records int, err error) {
	sessions, err := bolt.Open(storePath(dir, role))
	if err != nil {
		return 0, err
	}
	defer sessions.Close()
	session, err := sessions.Session(clientID(role))
	if err != nil {
		return 0, err
	}
	defer session.Close()
	err = session.Load(func(e store.Entry) error {
		if e.Key.Kind != store.Meta {
			records++
		}
		return e.Err
	})
	return records, err
}

// abandon ends what prepare started before it failed.
func (r *run) abandon() error {
	for _, p := range []*process{r.pub, r.rec} {
		if p != nil && p.cmd != nil {
			p.kill()
		}
	}
	if r.wills != nil {
		r.wills.close()
	}
	if r.witness != nil {
		return r.witness.close()
	}
	return nil
}

func (r *run) closeProxies() {
	for _, p := range r.proxies {
		if p != nil {
			p.close()
		}
	}
}

// progressLine says how far the run is.
func (r *run) progressLine(since time.Time) string {
	s := r.watch.figures()
	return fmt.Sprintf("%5.0fs  promised %d, received %d, processes %d, cuts %d, stalls %d, longest recovery %v",
		time.Since(since).Seconds(), s.promised, s.received, r.pub.latest()+r.rec.latest(),
		r.proxies[0].cuts.Load()+r.proxies[1].cuts.Load(),
		r.proxies[0].stalls.Load()+r.proxies[1].stalls.Load(), s.longest.Round(time.Millisecond))
}
