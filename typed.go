package mqtt

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"sync"
	"unicode/utf8"
)

// Codec turns payloads into values of T and back. It gains no methods in later versions.
type Codec[T any] interface {
	// Decode makes a value of the message, whose payload it may keep. It runs in a
	// goroutine of the subscription, or in that of the loop over All. It may end the
	// Conn, which waits 250 ms for it. [Subscription.Handle] says what becomes of a
	// message when Decode ends its goroutine.
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

// JSON returns the codec that uses encoding/json.
func JSON[T any]() Codec[T] { return jsonCodec[T]{} }

type jsonCodec[T any] struct{}

func (jsonCodec[T]) Decode(m Message) (v T, err error) {
	err = json.Unmarshal(m.Payload, &v)
	return v, err
}

func (jsonCodec[T]) Encode(v T) ([]byte, error) { return json.Marshal(v) }

// UTF8 returns the codec of text. Decoding a payload that is not UTF-8 is an error;
// Encode does not check.
func UTF8() Codec[string] { return textCodec{} }

type textCodec struct{}

func (textCodec) Decode(m Message) (string, error) {
	if !utf8.Valid(m.Payload) {
		return "", fmt.Errorf("mqtt: payload on %q is not UTF-8", m.Topic)
	}
	return string(m.Payload), nil
}

func (textCodec) Encode(s string) ([]byte, error) { return []byte(s), nil }

// Typed is a message with the value of its payload.
type Typed[T any] struct {
	Value T       // the decoded payload
	Err   error   // why the payload could not be decoded; Value is then its zero value
	Msg   Message // the message as it came
}

// Ack acknowledges the message, see [Message.Ack].
func (t Typed[T]) Ack() error { return t.Msg.Ack() }

// TypedSubscription is a [Subscription] with decoded payloads. A goroutine of the
// subscription decodes them, so that a slow codec does not hold up the link.
type TypedSubscription[T any] struct {
	*Subscription
	codec Codec[T]
	once  sync.Once
	ch    chan Typed[T]
}

// SubscribeAs is [Conn.Subscribe] with payloads decoded by codec. A message whose payload
// cannot be decoded is delivered with the error, and acknowledged like any other.
func SubscribeAs[T any](ctx context.Context, c *Conn, filter string, codec Codec[T], opts ...SubscribeOption) (*TypedSubscription[T], error) {
	o := newSubOptions(opts)
	deliver := o.start == formChannel
	o.start = formNone // the option means the channel of values
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

// AsTyped returns s with payloads decoded by codec. When s has a consumer already, the
// channel of the result is closed and Handle returns [ErrConsumerBound].
func AsTyped[T any](s *Subscription, codec Codec[T]) *TypedSubscription[T] {
	return &TypedSubscription[T]{Subscription: s, codec: codec}
}

// C returns the channel of values, the same on every call. It is closed when the
// subscription ends, and at once when the subscription has a consumer of another form;
// Err returns [ErrConsumerBound] then.
func (t *TypedSubscription[T]) C() <-chan Typed[T] {
	t.once.Do(func() {
		t.ch = make(chan Typed[T], t.opts.buffer)
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.form != formNone {
			t.secondForm = true
			close(t.ch)
			return
		}
		t.beginLocked(formTyped, typedSink[T]{t})
	})
	return t.ch
}

// typedSink sends decoded messages into the channel of values.
type typedSink[T any] struct{ to *TypedSubscription[T] }

func (s typedSink[T]) send(m Message, interrupt <-chan struct{}) bool { return s.to.send(m, interrupt) }

func (s typedSink[T]) close() { close(s.to.ch) }

// send decodes m and sends it into the channel. It reports false when interrupt was closed
// before.
func (t *TypedSubscription[T]) send(m Message, interrupt <-chan struct{}) bool {
	value := t.decodeMarked(m)
	select {
	case <-interrupt: // while m was decoded
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

// decodeMarked is decode, and sets decoding meanwhile.
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

// PublishAs is [Conn.Publish] of m with v, encoded by codec, as its payload. When v cannot
// be encoded the Future has failed with the error of codec.
func PublishAs[T any](ctx context.Context, c *Conn, m Message, codec Codec[T], v T) *Future {
	p, err := codec.Encode(v)
	if err != nil {
		return failed(m.Topic, err)
	}
	m.Payload = p
	return c.Publish(ctx, m.GiveAway())
}
