package mqtt

import (
	"context"
	"sync"
	"sync/atomic"
)

// upstream is what the subscriptions of a Conn deliver from and report to: one for
// all of them.
type upstream struct {
	*reporter
	ledger *ledger
	inbox  inboxSide     // nil without a durable inbox; set before a link is made
	home   subscriptions // what ends a subscription at the server
	grants *sync.Mutex   // the routes' lock, which guards what the server granted

	made  atomic.Uint64  // subscriptions
	pumps sync.WaitGroup // goroutines that hand messages over, those in user code left out
}

// inboxSide is the durable inbox, as far as a subscription knows it.
type inboxSide interface {
	// giveBack takes QoS 1 and 2 messages that s does not hand over, and returns the rest.
	giveBack(s *Subscription, msgs []Message) (rest []Message)
	// wake has it hand out what waits.
	wake()
	// requestReconcile has it compare what waits with the subscriptions once more.
	requestReconcile()
	// subscriptionsArrived has it hand out to subs, which the application has now.
	subscriptionsArrived(subs ...*Subscription)
}

// subscriptions is the session, as far as a subscription knows it.
type subscriptions interface {
	unsubscribe(ctx context.Context, s *Subscription) error
	drain(ctx context.Context, s *Subscription) error
	hasEnded() bool
	ackedTooLate(gen generation, id uint16) bool
}

// finished notes that the application is done with messages.
func (u *upstream) finished(msgs ...Message) {
	if u.ledger.doneAll(msgs) {
		u.ledger.payAcks()
	}
}
