package mqtt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt/codec"
)

// waitingPublish publishes in a goroutine of its own, which waits for a place.
func waitingPublish(ctx context.Context, o *outbound, payload string) <-chan *Future {
	got := make(chan *Future, 1)
	go func() { got <- o.publish(ctx, &Message{Topic: "t", QoS: 1, Payload: []byte(payload)}, true) }()
	synctest.Wait()
	return got
}

// A waiter that could not fit gives up, and a smaller one behind it gets the
// place at once; one that is taken back makes room for a waiter.
func TestPlaceOfAWaiterThatGivesUpGoesToTheNext(t *testing.T) {
	for _, canceled := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cfg := testQueue(10)
			cfg.bytes = 100
			o := newTestOutbound(cfg)
			first := publish(o, 1, strings.Repeat("x", 59)) // 60 B with its topic, offline
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			large := waitingPublish(ctx, o, strings.Repeat("y", 59))
			small := waitingPublish(t.Context(), o, "small")
			if len(large)+len(small) > 0 {
				t.Fatal("nothing waits")
			}
			if canceled {
				if !first.Cancel() {
					t.Fatal("not taken back")
				}
			} else {
				<-ctx.Done()
			}
			synctest.Wait()
			if len(small) == 0 || len(large) == 0 {
				t.Errorf("canceled %t: %d of the large and %d of the small got through", canceled, len(large), len(small))
			}
			o.refuse(ErrClosed) // those that wait still
			synctest.Wait()
		})
	}
}

// Behind a writer that stands still, "drop oldest" gives up old messages for
// new ones at QoS 0 too.
func TestDropOldestBehindAStuckWriter(t *testing.T) {
	cfg := testQueue(10)
	cfg.policy, cfg.bytes = QueueDropOldest, 4*bufferMark
	o := newTestOutbound(cfg)
	l := upLink(o, 1, V5, 10)
	const size = 10_000
	payload := strings.Repeat("x", size)
	n := 0
	for ; n < 3*cfg.bytes/size; n++ {
		if err := publish(o, 0, fmt.Sprintf("%04d", n)+payload).Err(); err != ErrPending {
			t.Fatalf("the newest is given up: %v", err)
		}
	}
	sent := payloads(writeAll(o, l))
	if last := sent[len(sent)-1][:4]; last != fmt.Sprintf("%04d", n-1) {
		t.Errorf("the last one sent is %s of %d", last, n)
	}
}

// A flood of QoS 0 behind a writer that stands still leaves room for QoS 1, which
// goes out with the next write.
func TestFloodLeavesRoomForQoS1(t *testing.T) {
	o := newTestOutbound(testQueue(10))
	l := upLink(o, 1, V5, 10)
	payload := strings.Repeat("x", 10_000)
	for range 10 * windowMark / len(payload) {
		publish(o, 0, payload)
	}
	if f := publish(o, 1, "urgent"); f.Stage() != StageSent {
		t.Fatalf("stage %v", f.Stage())
	}
	if _, packets := takeBuffer(o, l); !slices.Contains(payloads(packets), "urgent") {
		t.Errorf("not among the %d packets of the next write", len(packets))
	}
}

// One at a time goes on until the last suspect is through.
func TestLastSuspectIsProbed(t *testing.T) {
	o := newTestOutbound(testQueue(10))
	for _, p := range numbered(0, 3) {
		publish(o, 1, p)
	}
	l := newFakeLink(o, 1, V5, 10)
	l.probe = true
	o.up(&l.sender, true, 0, func() {})
	publish(o, 1, "new") // no suspect
	if sent := writeAll(o, l); len(sent) > 0 {
		t.Fatalf("sent %v in the quiet", payloads(sent))
	}
	o.endSilence(&l.sender)
	for _, want := range [][]string{{"0000"}, {"0001"}, {"0002"}, {"new"}} {
		sent := writeAll(o, l)
		if got := payloads(sent); !slices.Equal(got, want) {
			t.Fatalf("sent %v, want %v", got, want)
		}
		ackOne(o, l, codec.PUBACK, sent[0].id, 0)
	}
	o.down(&l.sender, errors.New("end"))
}

// Flush waits for QoS 0 that stands behind a buffer full of acknowledgements.
func TestFlushWaitsBehindAcknowledgements(t *testing.T) {
	o := newTestOutbound(testQueue(10))
	l := upLink(o, 1, V311, 10)
	o.pay(l.no, bytes.Repeat([]byte{0x40, 2, 0, 1}, bufferMark/4))
	publish(o, 0, "behind")
	done := o.flush()
	for written := false; !written; {
		select {
		case <-done:
			t.Fatal("through before it was written")
		default:
		}
		b, packets := takeBuffer(o, l)
		o.wrote(&l.sender, b, nil)
		written = slices.Contains(payloads(packets), "behind")
	}
	select {
	case <-done:
	default:
		t.Error("written, and not through")
	}
}

// The place that is left is worked out without a sum that an int cannot hold, which at
// 32 bits is one of two gigabytes.
func TestRoomInAQueueWithoutLimit(t *testing.T) {
	o := newTestOutbound(queueConfig{messages: 10, bytes: math.MaxInt, policy: QueueDropOldest, inflight5: 1})
	for _, tc := range []struct {
		held, size int
		fits       bool
	}{{0, 100, true}, {math.MaxInt - 100, 100, true}, {math.MaxInt - 50, 100, false}, {math.MaxInt, 1, false}} {
		o.bytes = tc.held
		if got := o.fitsLocked(tc.size); got != tc.fits {
			t.Errorf("%d bytes beside %d: %t", tc.size, tc.held, got)
		}
		if got := o.canMakeRoomLocked(tc.size); got != tc.fits {
			t.Errorf("room for %d bytes beside %d, with nothing to drop: %t", tc.size, tc.held, got)
		}
	}
}
