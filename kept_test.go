package mqtt

import (
	"errors"
	"testing"

	"github.com/millrace/mqtt/store"
)

// A Future does not say that its message is kept when the store, which failed at
// the end of the Conn, never got it; whether the committer has been woken again or not.
func TestGivenUpMessageIsNotSaidToBeKept(t *testing.T) {
	for _, woken := range []bool{false, true} {
		o := newOutbound(queueConfig{messages: 10, bytes: 1 << 20, inflight3: 10, inflight5: 10}, func(Event) {})
		session, r, err := openSession(&store.Memory{}, "c", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		o.journal = &journal{session: session, epoch: r.epoch, budget: r.budget, closeNow: make(chan struct{}), running: true}
		o.restore(r)
		g, err := checkOutgoing(&Message{Topic: "t", QoS: 1, Properties: &Properties{Key: "k"}})
		if err != nil {
			t.Fatal(err)
		}
		o.price(&g)
		f, _, err := o.submit(&g, true)
		if err != nil {
			t.Fatal(err)
		}
		o.giveUpStore()
		o.journal.running = woken
		o.shutdown(ErrClosed)
		var w resolver
		w.turn(o)
		var failed *PublishError
		if !errors.As(f.Err(), &failed) || failed.Kept || !errors.Is(failed, ErrClosed) {
			t.Errorf("woken %t: %+v", woken, f.Err())
		}
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	}
}
