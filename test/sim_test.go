package mqtt_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/mqtttest/server"
	"github.com/millrace/mqtt/store"
)

// The simulation of a whole client: a real Conn, the server and the network of
// mqtttest, virtual time, and faults drawn from one seed. The seed fixes the
// options and what each actor draws; the scheduler's part it does not fix, so
// that a seed may have to be run a few times to fail again.
//
// What must hold, and under which faults:
//
// Out, from this client to the server.
//
//	O1 Every Future resolves, and its error never changes afterwards. When nothing
//	   ends the process, Flush returns once the network is well again.
//	O2 nil at QoS 1 and 2 means that the server has the message, and that the server
//	   had answered it by PUBACK or PUBCOMP when the Future resolved; that the
//	   answer arrived is not claimed. At QoS 0 it means that it was written: a cut
//	   may lose it.
//	O3 An error that says neither MayHaveArrived nor Kept means that the server
//	   never gets the message, in this process or a later one.
//	O4 An error has a cause that the run holds: ErrSessionLost only when a session
//	   was lost, ErrDropped only under a policy that drops, ErrSetAside only when
//	   there were three links for each such message beside two, and so on.
//	O5 The server takes a QoS 0 or 2 message at most once. At QoS 2 a lost session
//	   excuses more under LostPublish, which is made for that.
//	O6 First arrivals of one publisher at one QoS are in the order of publishing.
//	   Lost sessions and crashes excuse nothing: what is published anew keeps its
//	   order, and later processes publish later messages. Only a message whose end,
//	   a cancellation say, a crash undid comes after those that were sent meanwhile.
//	O7 A message that was stored when its process died is found by its key in the
//	   next one, or the server has it; it ends by O2 and O4. A lost session, an
//	   expiry, a drop or a cancellation may have ended it unseen, and such an end
//	   that the store did not note before the crash may be undone by it.
//	O8 The queue never holds more than its limits.
//
// In, from the server to the subscriptions of this client.
//
//	I1 A QoS 1 or 2 message (after the grant) published while the server had the
//	   filter of a live subscription reaches that subscription, unless the session
//	   is lost, the process dies, or the subscription is ended, by the test or by
//	   its slow policy, or keeps only the latest of a topic. A clean session is
//	   lost with each link. The one that every process declares, the keeper, gets
//	   it whatever processes die, in one of them. What was due to a subscription of
//	   one filter that its context ended, of a durable session, reaches that one, or
//	   the one that subscribes to the filter within the grace and lives to the end
//	   of the run, or detaches in turn; so does what is published for the filter in
//	   between. Not so when another subscription has the filter at that time, be it
//	   one that waits for SUBACK: nothing is held then.
//	I2 It comes at most once at QoS 0 and 2. At QoS 1 it comes again only with DUP,
//	   since its PUBACK may be lost. Copies for overlapping filters excuse it, and
//	   QoS 0 that is older than the subscription: two detached ones that it takes
//	   the place of may both have held it, and nothing tells that it is the same.
//	   So does what an earlier process left in the inbox for another filter, which
//	   comes to all that match when the grace is over. What one process answered
//	   by PUBREC comes to no later one, unless as Redelivered, and what one that
//	   was detached got at QoS 2 not to the one that took over from it, both where
//	   the server sends one copy. The inbox excuses the latter when a third one of
//	   the filter, be it a Subscribe that failed, may have left it there.
//	I3 First deliveries to one subscription are in the order of publishing, QoS 1
//	   and 2 taken together, QoS 0 apart. "Keep the latest" excuses it, and so does
//	   what excuses I2, and what the server sends again that is older than the
//	   subscription: the PUBACK of others is lost.
//	I4 The first Ack of a message returns nil while its session and subscription
//	   live; a second one never does.
//	I5 The channel is closed once, by the end of the subscription, and Err is set.
//	   Policy "block" never ends a subscription.
//	I6 A subscription holds no more than its limit, and of each session our Receive
//	   Maximum, or the server's window. What comes before its SUBACK is beside that.
//
// The Conn.
//
//	C1 Events: Connected and Disconnected alternate, links count up, Closed is the
//	   last.
//	C2 Once the network is well and everything is read: nothing queued, in flight or
//	   owed, here and at the server; the server holds the filters that are wished
//	   for, the keeper's too, and no others unless a former process left them; new
//	   messages of every QoS arrive. After the end the store has no message on its
//	   way out and no exchange that is open.
//	C3 The server saw nothing against the standard.
//	C4 Nothing runs after the end: the bubble finds what is left.
//
// A session that is lost, made anew and then lost sight of, since the CONNACK that
// says so never arrives, or comes to a process that dies before its store has
// noted it, is one that the protocol hides: the next CONNACK says Session Present.
// Such a run claims neither O5 nor I1 nor C2.
//
// Not simulated: takeover, a session store that fails without dying, and sessions
// lost unseen: MQTT 3.1 does not tell, and nothing could be claimed.
func TestSimulation(t *testing.T) {
	if seed, ok := chance.Given(t); ok {
		simulateOne(t, seed)
		return
	}
	first := chance.Seed(t)
	for i := range uint64(chance.Rounds(60, 20_000)) {
		if simulateOne(t, first+i); t.Failed() {
			return
		}
	}
}

// simulateOne runs one seed; what fails or hangs names it.
func simulateOne(t *testing.T, seed uint64) {
	var w *world
	hang := time.AfterFunc(20*time.Second, func() {
		fmt.Fprintln(os.Stderr, w.history())
		panic(fmt.Sprintf("MILLRACE_SEED=%d hangs", seed))
	})
	defer hang.Stop()
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(os.Stderr, "MILLRACE_SEED=%d\n%s\n", seed, w.history())
			panic(r)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		w = newWorld(t, seed)
		defer func() {
			if t.Failed() {
				t.Logf("MILLRACE_SEED=%d, %+v\n%s", seed, w.plan, w.history())
			}
		}()
		w.run()
	})
}

// world is one run: the server, the network, and what the test knows of both.
type world struct {
	t       *testing.T
	plan    plan
	seed    uint64
	began   time.Time
	network *server.Network
	srv     *server.Server
	disk    *disk

	halfOpen *server.Link // the last one that drops bytes; of the actor that makes faults

	mu        sync.Mutex
	rng       *rand.Rand // for hooks, which many goroutines run
	streams   uint64     // given to actors
	trace     []string
	calm      bool // no more faults
	losses    int  // sessions lost
	fresh     int  // sessions that the server made, and
	told      int  // those that the client was told of
	deaths    int  // processes that died
	asides    int  // messages set aside
	out       []*outMessage
	asked     map[uint16]int      // by packet identifier: the message that it was last published with
	ended     map[int]bool        // messages whose exchange the server ended by PUBACK or PUBCOMP
	answered  map[int]*simProcess // messages of QoS 2 that a process answered by PUBREC
	kept      map[int]bool        // messages that must come to the keeper of this process or a later one
	in        int                 // messages published by the server
	lossesAt  []int               // sessions lost when each was
	subs      []*simSub
	asking    []*simSub               // Subscribe has not returned
	handovers map[string]*simHandover // by filter: what a detached subscription left
	byHand    map[string]int          // Conn.Unsubscribe calls, by filter
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, seed: seed, began: time.Now(), network: &server.Network{}, rng: chance.Stream(seed, 0),
		disk: newDisk(), byHand: map[string]int{},
		asked: map[uint16]int{}, ended: map[int]bool{}, answered: map[int]*simProcess{}, kept: map[int]bool{}, handovers: map[string]*simHandover{}}
	w.plan = drawPlan(w.stream())
	w.network.BufferSize = w.plan.buffer
	cfg := server.Config{CopyPerSubscription: w.plan.copies, OnAck: w.fate, OnPublish: w.taken, OnConnect: w.onConnect, Inflight: w.plan.serverWindow}
	w.srv = server.Start(w.network, cfg)
	w.network.OnLink(w.onLink)
	return w
}

// branch returns random numbers for an actor that the one with rng begins.
func branch(rng *rand.Rand) *rand.Rand { return rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64())) }

// stream returns the random numbers of one more actor of the goroutine that runs w.
func (w *world) stream() *rand.Rand {
	w.streams++
	return chance.Stream(w.seed, w.streams)
}

// log adds a line to the trace. mu is not held.
func (w *world) log(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note(format, args...)
}

// note is log with mu held.
func (w *world) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%8.3f ", time.Since(w.began).Seconds())+fmt.Sprintf(format, args...))
}

// fail reports a broken rule. mu is not held.
func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.log("FAIL "+format, args...)
	w.t.Errorf(format, args...)
}

// history is the trace of the run, and the last packets.
func (w *world) history() string {
	if w == nil {
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := slices.Clone(w.trace)
	for _, p := range tail(w.srv.Packets("c"), 1500) {
		if p.Type != codec.PINGREQ && p.Type != codec.PINGRESP {
			lines = append(lines, fmt.Sprintf("%8.3f link %d %v", p.At.Sub(w.began).Seconds(), p.Link, p))
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(a[:8], b[:8]) })
	return strings.Join(lines, "\n")
}

func tail[T any](all []T, n int) []T { return all[max(0, len(all)-n):] }

// run lets processes live and die, and the last one end well.
func (w *world) run() {
	stop := make(chan struct{})
	var nature sync.WaitGroup
	rng := w.stream()
	serverSide := w.stream()
	nature.Go(func() { w.faults(rng, stop) })
	nature.Go(func() { w.serverPublishes(serverSide, stop) })
	for range w.plan.crashes {
		w.liveAndDie()
	}
	last := w.start(false)
	w.sleep(last.rng, w.plan.span)
	close(stop)
	nature.Wait()
	last.retire()
	synctest.Wait()
	w.srv.Close()
	w.checkOut()
	w.checkDisk()
	for _, v := range w.srv.Violations() {
		w.fail("C3: %s", v)
	}
}

// checkDisk ends C2: what is through is gone from the store.
func (w *world) checkDisk() {
	if !w.plan.stored || w.hidden() {
		return
	}
	for _, k := range w.disk.records(w.t) {
		if k.Kind == store.Incoming || k.Kind == store.Outgoing { // the inbox keeps what is not subscribed to
			w.fail("C2: %v is left in the store", k)
		}
	}
}

// sleep waits between half of d and d.
func (w *world) sleep(rng *rand.Rand, d time.Duration) {
	time.Sleep(d/2 + time.Duration(rng.Int64N(int64(d/2)+1)))
}

// plan is what is drawn before a run begins.
type plan struct {
	version      mqtt.Version
	durable      bool // the session outlives links
	stored       bool // and processes
	inbox        bool // what arrives is stored too
	loses        bool // the server loses sessions
	copies       bool // a copy for each overlapping subscription
	crashes      int
	span         time.Duration // of a process with faults
	violence     int           // about how often faults strike, 1 to 4
	ackFaults    int           // percent
	linkFaults   int           // percent of links that are born with one
	publishers   int
	slots        int
	inflight     int
	receiveMax   int
	serverWindow int
	buffer       int
	queue        int
	queueBytes   int
	policy       mqtt.QueuePolicy
	queueQoS0    bool
	lost1, lost2 mqtt.LostPolicy
	always       bool
	ackTimeout   time.Duration
	keepAlive    time.Duration
	memory       int  // of WithStoreMemory
	keeper       bool // one subscription is declared by every process
	end          int  // how the Conn ends
}

func drawPlan(rng *rand.Rand) plan {
	p := plan{
		version: versions[rng.IntN(3)], durable: rng.IntN(4) > 0, copies: rng.IntN(4) == 0,
		span: time.Duration(10+rng.IntN(50)) * time.Second, violence: 1 + rng.IntN(4),
		ackFaults: rng.IntN(2) * rng.IntN(20), linkFaults: rng.IntN(2) * rng.IntN(60),
		publishers: 1 + rng.IntN(3), slots: 1 + rng.IntN(4),
		inflight: 1 + rng.IntN(40), receiveMax: 1 + rng.IntN(40), serverWindow: rng.IntN(30),
		buffer: []int{0, 0, 64, 512}[rng.IntN(4)],
		queue:  []int{0, 0, 3, 20}[rng.IntN(4)], queueBytes: []int{0, 0, 0, 1500}[rng.IntN(4)],
		policy: mqtt.QueuePolicy(rng.IntN(4)), queueQoS0: rng.IntN(2) == 0,
		lost1: mqtt.LostPolicy(rng.IntN(3)), lost2: mqtt.LostPolicy(rng.IntN(3)), always: rng.IntN(4) == 0,
		ackTimeout: []time.Duration{0, 0, 2 * time.Second, 15 * time.Second}[rng.IntN(4)],
		keepAlive:  time.Duration(2+rng.IntN(20)) * time.Second, memory: rng.IntN(200), end: rng.IntN(3),
	}
	p.loses = rng.IntN(2) == 0 && (p.version != mqtt.V31 || !p.durable)
	if p.stored = p.durable && rng.IntN(2) == 0; p.stored {
		p.crashes = rng.IntN(4)
		p.inbox = rng.IntN(2) == 0
		p.keeper = rng.IntN(2) == 0
	}
	return p
}

// options are those of Connect.
func (p *plan) options() []mqtt.ConnectOption {
	opts := []mqtt.ConnectOption{
		mqtt.WithClientID("c"), mqtt.WithVersions(p.version), mqtt.WithBackoff(steady(time.Second)),
		mqtt.WithFirstConnect(mqtt.FirstConnectBackground), mqtt.WithKeepAlive(p.keepAlive), mqtt.WithPingTimeout(3 * time.Second),
		mqtt.WithMaxInflight(p.inflight), mqtt.WithReceiveMaximum(p.receiveMax), mqtt.WithQueue(p.queue, p.queueBytes, p.policy),
		mqtt.WithSessionLost(p.lost1, p.lost2), mqtt.WithAckTimeout(p.ackTimeout), mqtt.WithStoreMemory(p.memory),
	}
	if p.durable {
		opts = append(opts, mqtt.WithSession(24*time.Hour))
	}
	if p.keeper {
		opts = append(opts, mqtt.WithSubscription(keeperFilter, mqtt.QoS(2), mqtt.WithSlowPolicy(mqtt.SlowBlock)))
	}
	if p.inbox {
		opts = append(opts, mqtt.WithInbox())
	}
	if p.queueQoS0 {
		opts = append(opts, mqtt.WithQueuedQoS0())
	}
	if p.always {
		opts = append(opts, mqtt.WithResubscribeOnReconnect())
	}
	return opts
}
