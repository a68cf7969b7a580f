package mqtt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/internal/chance"
)

func publish(o *outbound, qos QoS, payload string) *Future {
	return o.publish(context.Background(), &Message{Topic: "t", QoS: qos, Payload: []byte(payload)}, false)
}

// upLink brings a fake link up with a session that goes on.
func upLink(o *outbound, no uint32, v Version, quota int) *link {
	l := newFakeLink(o, no, v, quota)
	o.up(&l.sender, true, 0, func() {})
	return l
}

func payloads(sent []sentPacket) (all []string) {
	for _, p := range sent {
		if p.typ == codec.PUBLISH {
			all = append(all, p.payload)
		}
	}
	return all
}

// numbered are the payloads from..to-1.
func numbered(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("%04d", i))
	}
	return all
}

// What N+10 publishes offline come to, under each policy, by messages and by bytes.
func TestQueuePoliciesOffline(t *testing.T) {
	const n, more = 20, 10
	for _, limit := range []string{"messages", "bytes"} {
		for _, tc := range []struct {
			policy  QueuePolicy
			queued  []string
			failed  []string
			reason  error
			dropped int
		}{
			{QueueWait, numbered(0, n), numbered(n, n+more), ErrQueueFull, 0},
			{QueueFail, numbered(0, n), numbered(n, n+more), ErrQueueFull, 0},
			{QueueDropOldest, numbered(more, n+more), numbered(0, more), ErrDropped, more},
			{QueueDropNewest, numbered(0, n), numbered(n, n+more), ErrDropped, more},
		} {
			t.Run(limit+"/"+tc.policy.String(), func(t *testing.T) {
				cfg := testQueue(100)
				if cfg.policy = tc.policy; limit == "messages" {
					cfg.messages = n
				} else {
					cfg.bytes = n * len("t0000")
				}
				var events []MessageDropped
				o := newOutbound(cfg, func(ev Event) { events = append(events, ev.(MessageDropped)) })
				futures := map[string]*Future{}
				for i, p := range numbered(0, n+more) {
					futures[p] = publish(o, QoS(1+i%2), p)
				}
				turnAll(o)
				for _, p := range tc.failed {
					e, ok := errors.AsType[*PublishError](futures[p].Err())
					if !ok || !errors.Is(e, tc.reason) || e.MayHaveArrived {
						t.Errorf("%s failed with %v, want %v", p, futures[p].Err(), tc.reason)
					}
				}
				if len(events) != tc.dropped || o.stats.dropped != uint64(tc.dropped) {
					t.Errorf("%d events, %d counted, want %d", len(events), o.stats.dropped, tc.dropped)
				}
				for i, ev := range events {
					if ev.Total != uint64(i+1) || ev.Topic != "t" || !errors.Is(ev.Err, ErrDropped) {
						t.Errorf("event %d: %+v", i, ev)
					}
				}
				l := upLink(o, 1, V311, 100)
				if got := payloads(writeAll(o, l)); !slices.Equal(got, tc.queued) {
					t.Errorf("sent %v, want %v", got, tc.queued)
				}
			})
		}
	}
}

// A wait ends with room, in the order of coming, or with the context.
func TestWaitForRoomInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testQueue(1)
		cfg.messages = 1
		o := newTestOutbound(cfg)
		go o.resolve()
		l := upLink(o, 1, V311, 1)
		publish(o, 1, "first")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("no patience"))
		defer cancel()
		results := make(chan error, 2)
		go func() {
			f := o.publish(ctx, &Message{Topic: "t", QoS: 1, Payload: []byte("gives up")}, true)
			results <- f.Err()
		}()
		synctest.Wait()
		waits := make(chan *Future, 1)
		go func() { waits <- o.publish(t.Context(), &Message{Topic: "t", QoS: 1, Payload: []byte("second")}, true) }()
		synctest.Wait()
		if f := publish(o, 1, "try"); !errors.Is(f.Err(), ErrQueueFull) {
			t.Errorf("TryPublish at the limit: %v", f.Err())
		}
		if err := <-results; err == nil || errors.Unwrap(err).Error() != "no patience" {
			t.Errorf("a publish whose context ended: %v", err)
		}
		id := writeAll(o, l)[0].id
		o.acks(&l.sender, []ackFact{{typ: codec.PUBACK, id: id}})
		f := <-waits
		synctest.Wait()
		if got := payloads(writeAll(o, l)); !slices.Equal(got, []string{"second"}) {
			t.Errorf("sent %v", got)
		}
		if f.Stage() != StageSent {
			t.Errorf("stage %v", f.Stage())
		}
		o.down(&l.sender, errors.New("end"))
		o.shutdown(ErrClosed)
		<-o.ended
	})
}

// Room that comes while there is no link must not be overlooked.
func TestWaitersAreAcceptedOffline(t *testing.T) {
	cfg := testQueue(10)
	cfg.messages = 1
	o := newTestOutbound(cfg)
	l := upLink(o, 1, V311, 10)
	publish(o, 1, "suspect")
	writeAll(o, l)
	g, _ := checkOutgoing(&Message{Topic: "t", QoS: 1})
	_, w, err := o.submit(&g, true)
	if err != nil || w.ready == nil {
		t.Fatal(err, "did not wait")
	}
	l.probe = true
	o.down(&l.sender, errors.New("cut"))
	if v := o.judgeDeath(&l.sender, true, 1); !v.quarantined {
		t.Fatal("nothing was set aside")
	}
	turnAll(o)
	select {
	case <-w.ready:
	default:
		t.Fatal("the publisher still waits, though the queue is empty")
	}
}

// Dropping the whole queue for a message that does not fit all the same is of no use.
func TestNothingIsDroppedInVain(t *testing.T) {
	cfg := testQueue(1)
	cfg.policy, cfg.bytes = QueueDropOldest, 100
	o := newTestOutbound(cfg)
	l := upLink(o, 1, V311, 1)
	under := publish(o, 1, string(make([]byte, 59))) // 60 of 100 in flight
	queued := publish(o, 1, "queued")
	large := publish(o, 1, string(make([]byte, 49)))
	turnAll(o)
	if !errors.Is(large.Err(), ErrDropped) || queued.Err() != ErrPending || under.Err() != ErrPending {
		t.Fatalf("large %v, queued %v, in flight %v", large.Err(), queued.Err(), under.Err())
	}
	if o.stats.dropped != 1 {
		t.Fatalf("%d dropped", o.stats.dropped)
	}
	writeAll(o, l)
}

// Policies and Cancel touch only what was never sent; what is published anew
// after a lost session was.
func TestSentMessageIsNotTakenBack(t *testing.T) {
	cfg := testQueue(1)
	cfg.policy, cfg.messages = QueueDropOldest, 2
	o := newTestOutbound(cfg)
	l := upLink(o, 1, V311, 10)
	sent := o.publish(context.Background(), &Message{Topic: "t", QoS: 1, Properties: nil, Payload: []byte("sent")}, false)
	writeAll(o, l)
	o.down(&l.sender, errors.New("cut"))
	l = newFakeLink(o, 2, V311, 10)
	l.probe = true
	o.mu.Lock()
	o.sessionLostLocked()
	o.mu.Unlock()
	if sent.Stage() != StageQueued {
		t.Errorf("stage %v, want queued: the message is to be published anew", sent.Stage())
	}
	if sent.Cancel() {
		t.Error("a message that was sent could be canceled")
	}
	first, second := publish(o, 1, "first"), publish(o, 1, "second")
	turnAll(o)
	if sent.Err() != ErrPending || !errors.Is(first.Err(), ErrDropped) || second.Err() != ErrPending {
		t.Errorf("sent %v, first %v, second %v", sent.Err(), first.Err(), second.Err())
	}
	o.up(&l.sender, true, 0, func() {})
	o.endSilence(&l.sender)
	if got := writeAll(o, l); got[0].payload != "sent" || got[0].dup {
		t.Errorf("wrote %v", got)
	}
}

// An entry past its expiry is not sent, unless it was sent before; the rest
// is reduced by the wait.
func TestExpiredMessageIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newTestOutbound(testQueue(10))
		l := upLink(o, 1, V5, 1)
		msg := func(p string) *Future {
			return o.publish(t.Context(), &Message{Topic: "t", QoS: 1, Payload: []byte(p), Properties: &Properties{Expiry: 5 * time.Second}}, false)
		}
		sent, queued := msg("sent"), msg("queued")
		writeAll(o, l)
		time.Sleep(6 * time.Second)
		o.down(&l.sender, errors.New("cut"))
		l = newFakeLink(o, 2, V5, 10)
		o.up(&l.sender, false, 0, func() {})
		turnAll(o)
		if !errors.Is(queued.Err(), ErrExpired) {
			t.Errorf("queued: %v, want ErrExpired", queued.Err())
		}
		if got := payloads(writeAll(o, l)); !slices.Equal(got, []string{"sent"}) {
			t.Errorf("wrote %v, want what was sent before", got)
		}
		if sent.Err() != ErrPending {
			t.Errorf("sent: %v", sent.Err())
		}
	})
}

// What the server refused, or what never left the buffer, it has not.
func TestMayHaveArrivedOnlyWhenItCan(t *testing.T) {
	o := newTestOutbound(testQueue(10))
	l := upLink(o, 1, V5, 10)
	refused, twice := publish(o, 1, "refused"), publish(o, 1, "twice")
	sent := writeAll(o, l)
	ackOne(o, l, codec.PUBACK, sent[0].id, codec.NotAuthorized)
	unsent := publish(o, 0, "unsent")
	o.down(&l.sender, errors.New("cut"))
	l = upLink(o, 2, V5, 10)
	sent = writeAll(o, l)
	ackOne(o, l, codec.PUBACK, sent[0].id, codec.NotAuthorized)
	for _, tc := range []struct {
		f    *Future
		want bool
	}{{refused, false}, {unsent, false}, {twice, true}} {
		e, ok := errors.AsType[*PublishError](tc.f.Err())
		if !ok || e.MayHaveArrived != tc.want {
			t.Errorf("%v: MayHaveArrived is not %v", tc.f.Err(), tc.want)
		}
	}
}

// Flush waits for a Future whose acknowledgement came while the writer still reads
// its payload, and for those that the goroutine has in hand.
func TestFlushWaitsForWhatIsInHand(t *testing.T) {
	o := newTestOutbound(testQueue(10))
	l := upLink(o, 1, V311, 10)
	m := Message{Topic: "t", QoS: 1, Payload: make([]byte, refSize+1)}.GiveAway()
	f := o.publish(context.Background(), &m, false)
	b, sent := takeBuffer(o, l)
	ackOne(o, l, codec.PUBACK, sent[0].id, 0)
	if f.Err() != ErrPending {
		t.Fatal("resolved while the writer reads the payload")
	}
	flushed := o.flush()
	closed := func() bool {
		select {
		case <-flushed:
			return true
		default:
			return false
		}
	}
	if closed() {
		t.Fatal("Flush did not wait for the writer")
	}
	o.wrote(&l.sender, b, nil)
	if closed() {
		t.Fatal("Flush did not wait for the goroutine")
	}
	// The goroutine has the batch in hand: a Flush of that moment waits too.
	o.mu.Lock()
	batch := o.resolved
	o.resolved, o.inHand = nil, true
	o.mu.Unlock()
	if o.flush(); closed() {
		t.Fatal("Flush did not wait for what is in hand")
	}
	for i := range batch {
		batch[i].resolve()
	}
	turnAll(o)
	if !closed() || f.Err() != nil {
		t.Fatalf("closed %v, %v", closed(), f.Err())
	}
}

// A peer that makes us owe replies and reads none ends the link, whether we know its
// packet identifiers or not.
func TestPeerThatReadsNoRepliesEndsTheLink(t *testing.T) {
	for name, cause := range map[string]func(o *outbound, l *link){
		"PUBREC unknown": func(o *outbound, l *link) {
			o.acks(&l.sender, slices.Repeat([]ackFact{{typ: codec.PUBREC, id: 777}}, 100))
			turnAll(o)
		},
		"PUBREC repeated": func(o *outbound, l *link) {
			o.acks(&l.sender, slices.Repeat([]ackFact{{typ: codec.PUBREC, id: 1}}, 100))
			turnAll(o)
		},
		"PUBLISH": func(o *outbound, l *link) {
			g := ledger{pay: o.pay}
			g.up(l.no, l.version, false, 0)
			for range 100 {
				g.arrive(inbound(5, 1, false), 1, time.Time{}, nil)
				g.payAcks()
			}
		},
		"PUBREL unknown": func(o *outbound, l *link) {
			g := ledger{pay: o.pay}
			g.up(l.no, l.version, false, 0)
			for range 100 {
				g.pubrel(7)
			}
		},
	} {
		o := newTestOutbound(testQueue(10))
		l := upLink(o, 1, V5, 10)
		publish(o, 2, "one")
		b, _ := takeBuffer(o, l) // and the writer stands still
		for range floodLimit/400 + 10 {
			if l.killed() {
				break
			}
			cause(o, l)
		}
		if e, ok := errors.AsType[*ProtocolError](l.cause); !ok || e.Code != codec.QuotaExceeded {
			t.Errorf("%s: the link ended with %v", name, l.cause)
		}
		if n := len(l.out.buf); n > floodLimit+1000 {
			t.Errorf("%s: %d bytes in the buffer", name, n)
		}
		o.wrote(&l.sender, b, nil)
	}
}

// Payloads beside the buffer count: what a policy or Cancel may have to take back
// must not be encoded.
func TestLargePayloadsFillTheBuffer(t *testing.T) {
	o := newTestOutbound(testQueue(100))
	l := upLink(o, 1, V311, 100)
	var last *Future
	for range 10 {
		m := Message{Topic: "t", QoS: 1, Payload: make([]byte, windowMark/4)}.GiveAway()
		last = o.publish(context.Background(), &m, false)
	}
	if !last.Cancel() {
		t.Fatal("all of 2.5 MiB went to the writer at once")
	}
	if n := len(writeAll(o, l)); n != 9 {
		t.Fatalf("wrote %d", n)
	}
}

// The age of what is sent after an idle time begins with its sending.
func TestAgeAfterIdleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newTestOutbound(testQueue(10))
		l := upLink(o, 1, V311, 10)
		writeAll(o, l)
		time.Sleep(time.Hour)
		publish(o, 1, "now")
		if at, ok := o.oldestSent(); !ok || time.Since(at) > time.Second {
			t.Fatalf("sent %v ago", time.Since(at))
		}
	})
}

// 10^6 publishes and control exchanges with acknowledgements in any order,
// long delays and giving up; in CI 1 %.
func TestIdentifiersOverAMillionExchanges(t *testing.T) {
	total := chance.Rounds(10_000, 1_000_000)
	rng := chance.Rand(t)
	o := newTestOutbound(testQueue(2_000))
	l := upLink(o, 1, V311, 2_000)
	open := map[uint16]codec.Type{}
	var acks []ackFact
	laps, last := 0, uint16(0)
	var answered, dropped int
	for made := 0; made < total || len(open) > 0; {
		for range rng.IntN(200) {
			if made++; rng.IntN(5) == 0 {
				o.control(testControl(&answered, &dropped))
			} else {
				publish(o, QoS(1+rng.IntN(2)), "p")
			}
		}
		for _, p := range writeAll(o, l) {
			if p.typ == codec.PUBREL {
				acks = append(acks, ackFact{typ: codec.PUBCOMP, id: p.id})
				continue
			}
			if p.id == 0 || open[p.id] != 0 {
				t.Fatalf("%v while %v is open", p, open[p.id])
			}
			if p.id < last {
				laps++
			}
			last, open[p.id] = p.id, p.typ
			switch {
			case p.typ == codec.SUBSCRIBE:
				acks = append(acks, ackFact{typ: codec.SUBACK, id: p.id, codes: []codec.ReasonCode{0}})
			case p.qos == 1:
				acks = append(acks, ackFact{typ: codec.PUBACK, id: p.id})
			default:
				acks = append(acks, ackFact{typ: codec.PUBREC, id: p.id})
			}
		}
		rng.Shuffle(len(acks), func(i, j int) { acks[i], acks[j] = acks[j], acks[i] })
		n := min(len(acks), rng.IntN(400))
		if made >= total {
			n = len(acks)
		}
		for _, a := range acks[:n] {
			if a.typ != codec.PUBREC {
				delete(open, a.id)
			}
		}
		o.acks(&l.sender, acks[:n])
		acks = acks[n:]
		turnAll(o)
	}
	if most := total/(maxPacketID-2_000-4_000) + 1; laps > most {
		t.Errorf("the identifiers went round %d times, at most %d are due", laps, most)
	}
	if o.accepted != 0 || o.win.ids.Len() != 0 {
		t.Errorf("%d accepted, %d identifiers left", o.accepted, o.win.ids.Len())
	}
}
