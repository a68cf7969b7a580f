package mqtt

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"sync"
	"unicode/utf8"
)

// Codec turns payloads into values of T and back. No method will be added to it.
type Codec[T any] interface {
	// Decode makes a value of the message. It may keep the payload. It runs in a
	// goroutine of the subscription, or in the loop over All, where
	// [Subscription.Handle] says what becomes of a message when it ends that. The end
	// of the Conn waits 250 ms for it, so that it may itself end the Conn.
	Decode(Message) (T, error)
	// Encode makes the payload of a value.
	Encode(T) ([]byte, error)
}

// CodecFunc is a Codec of two functions.
type CodecFunc[T any] struct {
	DecodeFunc func(Message) (T, error) // for messages received
	EncodeFunc func(T) ([]byte, error)  // for messages to publish
}

// Decode calls DecodeFunc.
func (c CodecFunc[T]) Decode(m Message) (T, error) { return c.DecodeFunc(m) }

// Encode calls EncodeFunc.
func (c CodecFunc[T]) Encode(v T) ([]byte, error) { return c.EncodeFunc(v) }

// JSON is the codec of encoding/json.
func JSON[T any]() Codec[T] { return jsonCodec[T]{} }

type jsonCodec[T any] struct{}

func (jsonCodec[T]) Decode(m Message) (v T, err error) {
	err = json.Unmarshal(m.Payload, &v)
	return v, err
}

func (jsonCodec[T]) Encode(v T) ([]byte, error) { return json.Marshal(v) }

// UTF8 is the codec of text; a payload that is not UTF-8 is an error.
func UTF8() Codec[string] { return textCodec{} }

type textCodec struct{}

func (textCodec) Decode(m Message) (string, error) {
	if !utf8.Valid(m.Payload) {
		return "", fmt.Errorf("mqtt: payload on %q is not UTF-8", m.Topic)
	}
	return string(m.Payload), nil
}

func (textCodec) Encode(s string) ([]byte, error) { return []byte(s), nil }

// Typed is a message and the value that its payload stands for.
type Typed[T any] struct {
	Value T       // what the codec made of the payload
	Err   error   // why the payload could not be decoded; Value is then its zero value
	Msg   Message // the message as it came
}

// Ack acknowledges the message, see [Message.Ack].
func (t Typed[T]) Ack() error { return t.Msg.Ack() }

// TypedSubscription is a [Subscription] whose payloads are decoded, by a
// goroutine of the subscription and not by the reader of the link.
type TypedSubscription[T any] struct {
	*Subscription
	codec Codec[T]
	once  sync.Once
	ch    chan Typed[T]
}

// SubscribeAs is [Conn.Subscribe] with payloads decoded by codec. A payload that
// cannot be decoded is delivered with its error, and acknowledged like any other.
func SubscribeAs[T any](ctx context.Context, c *Conn, filter string, codec Codec[T], opts ...SubscribeOption) (*TypedSubscription[T], error) {
	o := newSubOptions(opts)
	deliver := o.start == formChannel
	o.start = formNone // the channel meant is that of values
	s, err := c.subscribe(ctx, []Filter{{Pattern: filter, QoS: o.qos}}, o)
	if err != nil {
		return nil, err
	}
	t := AsTyped(s, codec)
	if deliver {
		t.C()
	}
	return t, nil
}

// AsTyped reads s through codec. No other consumer may have begun with s.
func AsTyped[T any](s *Subscription, codec Codec[T]) *TypedSubscription[T] {
	return &TypedSubscription[T]{Subscription: s, codec: codec}
}

// C returns the channel of values, the same on every call. It is closed when
// the subscription ends, and empty and closed when the subscription is consumed
// in another form.
func (t *TypedSubscription[T]) C() <-chan Typed[T] {
	t.once.Do(func() {
		t.ch = make(chan Typed[T], t.opts.buffer)
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.form != formNone {
			close(t.ch)
			return
		}
		t.begin(formTyped, typedSink[T]{t})
	})
	return t.ch
}

// typedSink decodes what it is sent for the channel of values.
type typedSink[T any] struct{ to *TypedSubscription[T] }

func (s typedSink[T]) send(m Message, interrupt <-chan struct{}) bool { return s.to.send(m, interrupt) }

func (s typedSink[T]) close() { close(s.to.ch) }

// send decodes m and puts it in the channel.
func (t *TypedSubscription[T]) send(m Message, interrupt <-chan struct{}) bool {
	value := t.decodeMarked(m)
	select {
	case <-interrupt: // while it was decoded
		return false
	default:
	}
	select {
	case t.ch <- value:
		return true
	case <-interrupt:
		return false
	}
}

// decodeMarked is decode, and tells of it while it lasts.
func (t *TypedSubscription[T]) decodeMarked(m Message) Typed[T] {
	t.decoding.Store(true)
	defer t.decoding.Store(false)
	return t.decode(m)
}

func (t *TypedSubscription[T]) decode(m Message) Typed[T] {
	v, err := t.codec.Decode(m)
	if err != nil {
		var zero T
		v, err = zero, fmt.Errorf("mqtt: payload on %q: %w", m.Topic, err)
	}
	return Typed[T]{Value: v, Err: err, Msg: m}
}

// All is [Subscription.All] with decoded values.
func (t *TypedSubscription[T]) All() iter.Seq[Typed[T]] {
	return func(yield func(Typed[T]) bool) {
		for m := range t.Subscription.All() {
			if !yield(t.decode(m)) {
				return
			}
		}
	}
}

// Handle is [Subscription.Handle] with decoded values.
func (t *TypedSubscription[T]) Handle(f func(Typed[T])) error {
	return t.Subscription.Handle(func(m Message) { f(t.decode(m)) })
}

// PublishAs encodes v and publishes it; m gives topic, QoS and the rest. A value
// that cannot be encoded is a Future that has failed.
func PublishAs[T any](ctx context.Context, c *Conn, m Message, codec Codec[T], v T) *Future {
	p, err := codec.Encode(v)
	if err != nil {
		return failed(m.Topic, err)
	}
	m.Payload = p
	return c.Publish(ctx, m.GiveAway())
}
