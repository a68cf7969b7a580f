package mqtt

import (
	"context"
	"sync"
	"time"

	"github.com/millrace/mqtt/codec"
)

// Event is something that happened to a Conn: one of [Connecting], [Connected],
// [Disconnected], [Retrying], [Downgraded], [SubscriptionLost], [SlowConsumer],
// [AckOverdue], [MessageDropped], [MessageUnmatched], [FaultyMessage],
// [PublishSetAside], [FilterSetAside], [SessionResumed], [ReceiveMaximumExceeded],
// [StoreFailed], [StoreDamaged] and [Closed]. Types may be added: a switch over them needs
// a default. Fields may be added too: compare fields instead of whole events.
type Event interface {
	// Info returns the fields that all events have.
	Info() EventInfo
	with(EventInfo) Event
}

// EventInfo has the fields of all events.
type EventInfo struct {
	// Time is when the event happened.
	Time time.Time
	// Link is the number of the link, 1 for the first; 0 when there was none.
	Link uint32
	// Missed is how many events this channel lost, since it was full, after the event
	// before this one was put into it. They were the oldest in it.
	Missed int
}

// Info returns e itself.
func (e EventInfo) Info() EventInfo { return e }

// Connecting says that an attempt to make a link begins.
type Connecting struct {
	EventInfo
	Server  string // URL without user information
	Version Version
	Attempt int // 1 for the first since the last link
}

// Connected says that the server accepted the connection.
type Connected struct {
	EventInfo
	// Server is the URL without user information.
	Server string
	// Address is the address of the server's host that accepted the connection, as
	// host:port. It is empty when the library did not look up the host: when the host
	// is an address itself, or a dialer or a proxy got its name.
	Address string
	// Version is the protocol version that the server accepted.
	Version Version
	// SessionPresent says that the server resumed a session. On MQTT 3.1 the server
	// does not say so, and it is false.
	SessionPresent bool
	// ClientID is the client identifier in use.
	ClientID string
	// KeepAlive is the keep alive of the link: the server's, if CONNACK has one.
	KeepAlive time.Duration
	// SessionExpiry is how long the server keeps the session after the link
	// ends, math.MaxInt64 when it does not expire; MQTT 5 only.
	SessionExpiry time.Duration
	// ReceiveMaximum is how many QoS 1 and 2 publishes may be in flight.
	ReceiveMaximum int
	// MaximumPacketSize is the largest packet the server takes, in bytes, at most
	// 268,435,460.
	MaximumPacketSize int
	// MaximumQoS is the highest QoS the server takes.
	MaximumQoS QoS
	// RetainAvailable, WildcardAvailable and SharedAvailable say what the server offers.
	RetainAvailable, WildcardAvailable, SharedAvailable bool
	// Connack is the packet as it came. Its Props, nil on 3.x and when there are no
	// properties, have further fields: ResponseInfo, the answer to
	// [WithRequestResponseInformation], ReasonString, ServerReference, and User, the
	// user properties of the server. An absent string is empty. Of the Reason String the
	// first 2 KiB are kept, of the user properties some 4 KiB (UserCut says that there were
	// more), and another value of more than 2 KiB is left out.
	Connack codec.Connack
}

// Disconnected says that a link that was connected has ended.
type Disconnected struct {
	EventInfo
	// Err is the reason: a *[ReasonError] or, of a WebSocket, a *[transport.CloseError]
	// when the server gave one, [ErrKeepAlive], a network error, a *[ProtocolError], or
	// [ErrClosed] when this side ended the link.
	Err error
	// Up is how long the link was up.
	Up time.Duration
}

// Retrying says that an attempt failed, or a link ended, and when the next attempt is.
type Retrying struct {
	EventInfo
	Attempt int // the number of the next attempt, 1 for the first after a link
	Delay   time.Duration
	Err     error // of the attempt, or of the link
}

// Downgraded says that the connection offers less than was asked for.
type Downgraded struct {
	EventInfo
	What      string // "protocol version", "session expiry", "CONNECT properties", "message expiry"
	From, To  string
	Temporary bool // false: it stays so for this server
}

// SessionResumed says that the server resumed a session that this process does not
// know: answers to an earlier process, and messages for it, may arrive.
type SessionResumed struct{ EventInfo }

// SubscriptionLost says that the server refused a subscription that it had granted
// before, by SUBACK or by cutting the link each time, see [FilterSetAside].
type SubscriptionLost struct {
	EventInfo
	Filter string // the filter that has no subscription any more
	Err    error  // the refusal
}

// SlowConsumer says that the application does not keep up with the messages of a
// subscription, or that it keeps up again.
type SlowConsumer struct {
	EventInfo
	Filter  string // the first filter of the subscription
	Pending int    // messages that wait in the library
	Bytes   int    // of these messages
	Dropped uint64 // messages that this subscription has dropped so far
	Started bool   // true: the application begins to be slow; false: it keeps up again
	Paused  bool   // the link is not read meanwhile
	Evicted bool   // the subscription was ended for that reason
}

// AckOverdue says that the application has had a message for the time of
// [WithAckOverdue] without acknowledging it, which holds up the acknowledgements
// behind it [MQTT-4.6.0-2].
type AckOverdue struct {
	EventInfo
	Topic    string // of the message
	Filter   string // of the subscription that has it
	PacketID uint16
	Age      time.Duration
	Owed     int // acknowledgements that the server has not got yet, this one included
}

// MessageDropped says that a message was given up: by the policy of the
// outbound queue, by a subscription that could not hold it, or because its handler ended
// its goroutine twice ([ErrHandlerExited]).
type MessageDropped struct {
	EventInfo
	Topic string // of the message, or the filter of the subscription
	Key   string // of a message from the session store, see [Properties]
	Size  int    // in bytes, 0 when it is not known
	Err   error
	Total uint64 // dropped so far, for this reason
}

// MessageUnmatched says that messages arrived which match no subscription. They were
// acknowledged: at once, or after the time of [WithBacklogGrace]. In the second case
// there is one event for each of the first 16 topics, and Total counts the messages of
// all topics.
type MessageUnmatched struct {
	EventInfo
	Topic string // of the messages
	Count int    // messages with this topic
	Total uint64 // unmatched messages so far, these included
}

// PublishSetAside says that a message seems to make the server cut the link, and is not
// sent again in this session: three links in a row, each of which had been up for a
// second without a publish, ended within a second after this message alone was sent.
// Its Future fails with [ErrSetAside]. For a message of an earlier process, whose Future
// the application may not have, there is a [MessageDropped] as well.
type PublishSetAside struct {
	EventInfo
	Topic    string // of the message
	Key      string // of the message, see [Properties]; empty without one
	PacketID uint16 // of the message; it is not used again
	Err      error  // why the last of the links ended
}

// ReceiveMaximumExceeded says that a server sent more QoS 1 and 2 messages at once
// than our Receive Maximum allows, so that the link ended with DISCONNECT 0x93
// (section 3.3.4) [MQTT-3.3.4-9]. It is reported once for each server.
type ReceiveMaximumExceeded struct {
	EventInfo
	// Server is the URL without user information.
	Server string
	// Announced is the Receive Maximum that the server exceeded.
	Announced int
	// Next is the Receive Maximum that later links to this server announce: 65,535,
	// which no server can exceed, or the one of [WithReceiveMaximum].
	Next int
	// Advice says how to avoid this when Next does not; otherwise it is empty.
	Advice string
}

// FilterSetAside says that a SUBSCRIBE or UNSUBSCRIBE of one filter seems to make the
// server cut the link, and is not sent again: three links in a row, each of which had
// been up for a second without any packet of the application, ended within a second
// after this packet alone was sent.
//
// After a SUBSCRIBE the call of Subscribe fails, or its subscription ends, with a
// *[SubscribeError] that has a *[SetAsideError] for the filter; with
// [WithPartialSuccess] the other filters stay. After an UNSUBSCRIBE the server may go on
// sending: messages for the filter are acknowledged and counted, see
// [MessageUnmatched].
type FilterSetAside struct {
	EventInfo
	Packet PacketType // PacketSubscribe or PacketUnsubscribe
	Filter string
	Err    error // why the last of the links ended
}

// FaultyMessage says that a message that breaks the protocol was acknowledged and
// dropped. No subscription can have it, and three links that had been up for less than
// [WithStableAfter] have ended because of it already. Other messages for the same topic
// with the same fault are dropped as well.
type FaultyMessage struct {
	EventInfo
	Topic    string // the first 64 bytes of the topic at most, quoted as a Go string
	PacketID uint16 // 0 at QoS 0
	QoS      QoS
	Err      error  // a *[ProtocolError] that says what is wrong with the message
	Total    uint64 // faulty messages dropped so far
}

// StoreFailed says that the session store could not write or read. When it could not
// write, the Futures of the messages that were not in it yet have failed; changes of
// records that it has already are tried again. When it could not read a message that
// waits there, ten times in a row, the Future of that message has failed, and the message
// stays in the store.
type StoreFailed struct {
	EventInfo
	Err error // a *StoreError
	// Final says that the store failed too often, so that the Conn ends.
	Final bool
}

// StoreDamaged says that a record of the session store could not be used: it was
// damaged, and the store keeps it apart, or a later version of this package wrote it.
// When a message cannot be sent because another record of it was damaged, there is a
// [MessageDropped] as well.
type StoreDamaged struct {
	EventInfo
	Err error // a *store.DamageError
	// Left says that the record has a format or a kind that this version does not
	// know. It stays in the store as it is, its packet identifier is not used, and a
	// version that knows it goes on with it.
	Left bool
}

// Closed says that the Conn has ended. It is the last event.
type Closed struct {
	EventInfo
	Err error // that of [Conn.Err]
}

func (e Connecting) with(i EventInfo) Event       { e.EventInfo = i; return e }
func (e Connected) with(i EventInfo) Event        { e.EventInfo = i; return e }
func (e Disconnected) with(i EventInfo) Event     { e.EventInfo = i; return e }
func (e Retrying) with(i EventInfo) Event         { e.EventInfo = i; return e }
func (e Downgraded) with(i EventInfo) Event       { e.EventInfo = i; return e }
func (e SessionResumed) with(i EventInfo) Event   { e.EventInfo = i; return e }
func (e SubscriptionLost) with(i EventInfo) Event { e.EventInfo = i; return e }
func (e SlowConsumer) with(i EventInfo) Event     { e.EventInfo = i; return e }
func (e AckOverdue) with(i EventInfo) Event       { e.EventInfo = i; return e }
func (e MessageDropped) with(i EventInfo) Event   { e.EventInfo = i; return e }
func (e MessageUnmatched) with(i EventInfo) Event { e.EventInfo = i; return e }
func (e PublishSetAside) with(i EventInfo) Event  { e.EventInfo = i; return e }
func (e FilterSetAside) with(i EventInfo) Event   { e.EventInfo = i; return e }
func (e FaultyMessage) with(i EventInfo) Event    { e.EventInfo = i; return e }
func (e StoreFailed) with(i EventInfo) Event      { e.EventInfo = i; return e }
func (e StoreDamaged) with(i EventInfo) Event     { e.EventInfo = i; return e }
func (e Closed) with(i EventInfo) Event           { e.EventInfo = i; return e }

func (e ReceiveMaximumExceeded) with(i EventInfo) Event { e.EventInfo = i; return e }

// eventBuffer is how many events a listener may leave unread.
const eventBuffer = 64

// events sends events to listeners. It never blocks: a full channel loses its oldest
// event, and the next event has the number of those lost.
type events struct {
	mu     sync.Mutex
	main   listener
	others map[*listener]struct{}
	closed bool
	link   uint32
	state  Event // the last event that changed the state, for a new listener
}

// listener is one channel of events.
type listener struct {
	ch     chan Event
	missed int
	stop   func() bool // ends the watch on the context of Watch; nil for the main listener
}

func newEvents() *events {
	return &events{main: listener{ch: make(chan Event, eventBuffer)}, others: map[*listener]struct{}{}}
}

// emit sends ev to every listener. Closed is the last event.
func (e *events) emit(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	ev = ev.with(EventInfo{Time: time.Now(), Link: e.link})
	switch ev.(type) {
	case Connecting, Connected, Disconnected, Retrying, Closed:
		e.state = ev
	}
	e.main.send(ev)
	for l := range e.others {
		l.send(ev)
	}
	if _, last := ev.(Closed); last {
		e.closed = true
		close(e.main.ch)
		for l := range e.others {
			l.stop()
			close(l.ch)
		}
		clear(e.others)
	}
}

// setLink names the link that later events belong to.
func (e *events) setLink(n uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.link = n
}

// linkNo returns the number that setLink gave last.
func (e *events) linkNo() uint32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.link
}

// send puts ev into the channel. When the channel is full it takes the oldest events out.
func (l *listener) send(ev Event) {
	for {
		info := ev.Info()
		info.Missed = l.missed
		select {
		case l.ch <- ev.with(info):
			l.missed = 0
			return
		default:
		}
		select {
		case old := <-l.ch:
			l.missed += 1 + old.Info().Missed
		default:
		}
	}
}

// watch makes a listener that begins with the current state and ends with ctx.
func (e *events) watch(ctx context.Context) <-chan Event {
	l := &listener{ch: make(chan Event, eventBuffer)}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != nil {
		l.send(e.state)
	}
	if e.closed {
		close(l.ch)
		return l.ch
	}
	e.others[l] = struct{}{}
	l.stop = context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if _, there := e.others[l]; there {
			delete(e.others, l)
			close(l.ch)
		}
	})
	return l.ch
}
