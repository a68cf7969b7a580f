package mqtt

import (
	"fmt"

	"github.com/millrace/mqtt/codec"
)

// SetAsideError says that the server seems to cut the link at a SUBSCRIBE or
// UNSUBSCRIBE of one filter: three links in a row, each of which had been well for a
// second before, ended within a second of being sent this packet alone. It is not sent
// again. MQTT 3.1 servers have no other way to refuse a filter, and AWS IoT (no
// permission) and Mosquitto (too many levels) do it in every version.
type SetAsideError struct {
	// Packet is codec.SUBSCRIBE or codec.UNSUBSCRIBE.
	Packet codec.Type
	// Filter is the one that the packet had.
	Filter string
	// Err is what the last of the links ended with: a *[ReasonError] when an MQTT 5
	// server gave a reason, else a network error.
	Err error
}

// Error names packet, filter and how the last link ended.
func (e *SetAsideError) Error() string {
	return fmt.Sprintf("mqtt: %v of %q set aside, the link died each time it was sent: %s", e.Packet, e.Filter, trimPrefix(e.Err))
}

// Unwrap returns what the last of the links ended with.
func (e *SetAsideError) Unwrap() error { return e.Err }

// Is makes every SetAsideError an [ErrSetAside].
func (e *SetAsideError) Is(target error) bool { return target == ErrSetAside }

// giveUpSubscribe takes filter away from the subscriptions that its SUBSCRIBE is for,
// as a refusal by SUBACK does.
func (t *routes) giveUpSubscribe(filter string, err error) (settled []*Subscription, lost []lostRoute) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.filters[filter]
	if r == nil || r.ctl == nil || t.conn.out.sentAt(r.ctl).IsZero() {
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
