package mqtt

import (
	"github.com/millrace/mqtt/codec"
)

// giveUpSubscribe takes filter away from the subscriptions that its SUBSCRIBE is for,
// as a refusal by SUBACK does.
func (t *routes) giveUpSubscribe(filter string, err error) (settled []*Subscription, lost []lostRoute) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.filters[filter]
	if r == nil || r.ctl == nil || t.out.sentAt(r.ctl).IsZero() {
		return nil, nil // unsubscribed since, or to be asked for anew
	}
	settled, lost = t.conclude(r, codec.UnspecifiedError, err)
	t.changed()
	return settled, lost
}

// giveUpUnsubscribe leaves filter at the server. What still comes for it matches
// nothing: it is acknowledged and counted, and not held for a Subscribe.
func (t *routes) giveUpUnsubscribe(filter string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, open := t.removed[filter]; !open {
		return // subscribed again since
	}
	delete(t.removed, filter)
	t.leftBehind[filter] = true
	t.refuseDrain(filter, err)
}
