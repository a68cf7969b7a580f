package mqtt

import (
	"sync"
	"sync/atomic"
)

// consumer is the application's end of a subscription: the form in which it reads, the
// messages that wait for it, and those that are being handed over. It is part of the Subscription; its own lock
// guards it.
type consumer struct {
	mu                sync.Mutex
	form              consumerForm
	secondForm        bool // C or All was called for another than form
	ch                chan Message
	sink              sink // nil without a form, and for the iterator
	box               mailbox
	pumps             int           // goroutines that hand over; they own the send to the channel
	inDelivery        int           // messages that pumps and iterators are delivering
	interrupt         chan struct{} // closed to make pumps put their message back
	paused            bool
	halted            bool          // for good: the Conn ends
	sending           bool          // halted while pumps were sending to the channel
	sent              chan struct{} // closed when none of them is, for halt
	ended             bool
	leave             leaving // when it ended: what became of what was not handed over
	forwards          []forwarding
	err               error
	stop              func() bool   // of the watch on the context of Subscribe
	idle              *sync.Cond    // iterators wait on it
	isSlow            bool          // since the last SlowConsumer that said so
	droppedSince      bool          // messages gave way in it
	returned          bool          // the application has it
	synced            bool          // the inbox hands out to it: not before Subscribe has returned it
	wantsMore         bool          // the inbox has more for it once there is room
	progress          uint64        // counts what was taken, finished and acknowledged
	room              chan struct{} // closed when a reader that waits may go on
	awaitsArrivalRoom bool          // the reader waits to enter more into the inbox
	quiet             chan struct{} // closed when nothing is pending, for Drain

	delivered, dropped atomic.Uint64
	drainDone          atomic.Bool // a Drain got everything handed over
	decoding           atomic.Bool // the codec of a typed channel runs
}

// leaving says what becomes of the messages that a subscription has not handed over when
// it ends.
type leaving uint8

const (
	leaveAcked  leaving = iota // it is acknowledged and counted as dropped
	leaveServer                // the server sends it again, the inbox keeps it: the Conn ends
	leaveInbox                 // the inbox keeps it for the next subscription; without one it is acknowledged
)

// init prepares c, which is new.
func (c *consumer) init() {
	c.interrupt = make(chan struct{})
	c.idle = sync.NewCond(&c.mu)
	c.stop = func() bool { return true }
}

// sendsLocked reports whether the pumps send to a channel, where an interrupt ends their
// wait. Code of the application may take its time.
func (c *consumer) sendsLocked() bool { return c.form == formChannel || c.form == formTyped }

// scope sets what stops the watch on the context of Subscribe.
func (c *consumer) scope(stop func() bool) {
	c.mu.Lock()
	c.stop = stop
	ended := c.ended
	c.mu.Unlock()
	if ended {
		stop()
	}
}

// sendLocked puts as many of msgs into the channel as it has room for.
func (c *consumer) sendLocked(msgs []Message) int {
	for i := range msgs {
		select {
		case c.ch <- msgs[i]:
		default:
			c.delivered.Add(uint64(i))
			return i
		}
	}
	c.delivered.Add(uint64(len(msgs)))
	return len(msgs)
}

// halt stops handing over for good, since the Conn ends. The channel that it returns is
// closed when no pump is sending to the subscription's channel any more; code of the
// application that has a message is not waited for.
func (c *consumer) halt() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.paused && !c.ended {
		close(c.interrupt)
	}
	c.paused, c.halted = true, true
	if c.sent == nil {
		c.sent = make(chan struct{})
		c.sending = c.inDelivery > 0 && c.sendsLocked()
		if !c.sending {
			close(c.sent)
		}
	}
	return c.sent
}

// wakeIteratorsLocked wakes a loop over All that waits for a message.
func (c *consumer) wakeIteratorsLocked() {
	if c.form == formIterator && !c.paused {
		c.idle.Signal()
	}
}

// ending reports whether the subscription has ended, and how.
func (c *consumer) ending() (ended bool, leave leaving) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended, c.leave
}

// gone reports whether the subscription has ended and forwards to no other.
func (c *consumer) gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended && len(c.forwards) == 0
}

// leaves reports whether messages in the queue of the subscription go back to the inbox.
func (c *consumer) leaves() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended && c.leave == leaveInbox || len(c.forwards) > 0
}

// puttingBack reports whether a pump has yet to put back what it was delivering when the
// subscription ended. The pump waits for nothing but the codec of a typed one.
func (c *consumer) puttingBack() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended && c.inDelivery > 0 && c.sendsLocked()
}

// noteSecondForm notes that another form was asked for than was chosen.
func (c *consumer) noteSecondForm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secondForm = true
}

// isUnread reports whether the application has not chosen a form.
func (c *consumer) isUnread() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.form == formNone
}

// isChannel reports whether the subscription is read through its channel of messages.
func (c *consumer) isChannel() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.form == formChannel
}

// markReturned notes that Subscribe has returned the subscription, and reports whether
// that is new.
func (c *consumer) markReturned() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.returned
	c.returned = true
	return !before
}

// isReturned reports whether the application has the subscription.
func (c *consumer) isReturned() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.returned
}

// setSynced notes that the inbox knows the subscription, and may hand out to it.
func (c *consumer) setSynced() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.synced = true
}

// isSynced reports whether the inbox knows the subscription.
func (c *consumer) isSynced() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.synced
}
