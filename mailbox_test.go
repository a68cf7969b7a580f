package mqtt

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/millrace/mqtt/internal/chance"
)

// mailboxModel is a mailbox as a slice, beside the real one.
type mailboxModel struct {
	t      *testing.T
	b      mailbox
	want   []Message
	taken  []Message         // may be put back
	latest map[string]string // by topic, the payload of the message that the next replaces; nil until replace is called
}

// A mailbox equals a plain slice under random pushes, takes, drops and
// replacements.
func TestMailboxModel(t *testing.T) {
	seed := chance.Seed(t)
	for round := range uint64(600) {
		rng := chance.Stream(seed, round)
		w := mailboxModel{t: t}
		replaces, classes := round%2 == 1, 1+rng.IntN(3)
		for i := range 400 {
			m := Message{Topic: fmt.Sprint("t", rng.IntN(9)), QoS: QoS(rng.IntN(classes)), Payload: fmt.Append(nil, i)}
			switch n := rng.IntN(12); {
			case n < 5 && replaces:
				w.replace(m)
			case n < 5:
				w.push(m)
			case n < 7:
				w.pop()
			case n < 8:
				w.unpop()
			case n < 9:
				w.drop0()
			case n < 11 && replaces:
				w.replace(m)
			default:
				w.cutAll(m.Topic)
			}
			checkSizes(t, &w.b, w.want)
		}
		for len(w.want) > 0 {
			w.pop()
		}
		if w.b.len() != 0 || w.b.size() != 0 || len(w.b.latest) != 0 {
			t.Fatalf("round %d: %d messages, %d B left, latest %v", round, w.b.len(), w.b.size(), w.b.latest)
		}
	}
}

func (w *mailboxModel) check(what string, got, want Message) {
	w.t.Helper()
	if got.Topic != want.Topic || string(got.Payload) != string(want.Payload) || got.QoS != want.QoS {
		w.t.Fatalf("%s %q %q, want %q %q", what, got.Topic, got.Payload, want.Topic, want.Payload)
	}
}

// remove takes the message at that index out of the model.
func (w *mailboxModel) remove(at int) {
	if m := w.want[at]; w.latest[m.Topic] == string(m.Payload) {
		delete(w.latest, m.Topic)
	}
	w.want = slices.Delete(w.want, at, at+1)
}

func (w *mailboxModel) push(m Message) {
	w.b.push(&m, time.Time{})
	w.want = append(w.want, m)
}

func (w *mailboxModel) pop() {
	if len(w.want) == 0 {
		return
	}
	got := w.b.pop()
	w.check("popped", got, w.want[0])
	w.remove(0)
	w.taken = append(w.taken, got)
}

func (w *mailboxModel) unpop() {
	last := len(w.taken) - 1
	if last < 0 {
		return
	}
	m := w.taken[last]
	w.taken = w.taken[:last]
	w.b.unpop(m)
	w.want = slices.Insert(w.want, 0, m)
	if _, newer := w.latest[m.Topic]; !newer && w.latest != nil {
		w.latest[m.Topic] = string(m.Payload)
	}
}

func (w *mailboxModel) drop0() {
	w.t.Helper()
	got, ok := w.b.drop0()
	at := slices.IndexFunc(w.want, func(m Message) bool { return m.QoS == 0 })
	if ok != (at >= 0) {
		w.t.Fatalf("drop0 %v, oldest QoS 0 at %d", ok, at)
	}
	if ok {
		w.check("dropped", got, w.want[at])
		w.remove(at)
	}
}

// cutAll cuts the messages of a topic. What stays is put back, the newest first.
func (w *mailboxModel) cutAll(topic string) {
	pick := func(m *Message) bool { return m.Topic == topic }
	for _, got := range w.b.cutAll(pick) {
		at := slices.IndexFunc(w.want, func(m Message) bool { return pick(&m) })
		w.check("cut", got, w.want[at])
		w.remove(at)
	}
	for _, m := range w.want {
		if w.latest != nil {
			w.latest[m.Topic] = string(m.Payload)
		}
	}
}

// replace puts m in the place of the newest of its topic when that is of the same class,
// else last.
func (w *mailboxModel) replace(m Message) {
	w.t.Helper()
	if w.latest == nil {
		w.latest = map[string]string{}
	}
	id, pending := w.latest[m.Topic]
	old, replaced := w.b.replace(m, time.Time{})
	if replaced != pending {
		w.t.Fatalf("replaced %v, pending %v", replaced, pending)
	}
	w.latest[m.Topic] = string(m.Payload)
	if !replaced {
		w.push(m)
		return
	}
	at := slices.IndexFunc(w.want, func(m Message) bool { return string(m.Payload) == id })
	w.check("replaced", old, w.want[at])
	if (old.QoS == 0) == (m.QoS == 0) {
		w.want[at] = m
		return
	}
	w.want = append(slices.Delete(w.want, at, at+1), m)
}

// checkSizes compares the lengths and sizes of b with those of want.
func checkSizes(t *testing.T, b *mailbox, want []Message) {
	t.Helper()
	size, held := 0, 0
	for i := range want {
		size += mailSize(&want[i])
		if want[i].QoS > 0 {
			held++
		}
	}
	if n, _ := b.held(); b.len() != len(want) || b.size() != size || n != held {
		t.Fatalf("%d messages of %d B, %d held, want %d of %d, %d", b.len(), b.size(), n, len(want), size, held)
	}
}

// A message that was put back is not the one that the next message of its topic replaces:
// the consumer would get the newest before an older one.
func TestMailboxReplacesTheNewest(t *testing.T) {
	var b mailbox
	m := func(payload string) Message { return Message{Topic: "t", Payload: []byte(payload)} }
	one, two := m("1"), m("2")
	b.push(&one, time.Time{})
	one = b.pop()
	b.push(&two, time.Time{})
	b.unpop(one)
	if old, _ := b.replace(m("3"), time.Time{}); string(old.Payload) != "2" {
		t.Fatalf("3 replaced %q, want 2", old.Payload)
	}
	if first, second := b.pop(), b.pop(); string(first.Payload) != "1" || string(second.Payload) != "3" {
		t.Fatalf("got %q, %q, want 1, 3", first.Payload, second.Payload)
	}
}

// Messages that replace one another and change between QoS 0 and QoS 1 take the
// memory of those that are pending.
func TestMailboxClosesHoles(t *testing.T) {
	var b mailbox
	for i := range 100_000 {
		m := Message{Topic: "kept"}
		if i > 0 {
			m = Message{Topic: fmt.Sprint(i % 100), QoS: QoS(i / 100 % 2)}
		}
		if _, replaced := b.replace(m, time.Time{}); !replaced {
			b.push(&m, time.Time{})
		}
	}
	for i := range b.rings {
		if n := len(b.rings[i].ring); n > 512 {
			t.Errorf("100 messages pending: ring %d has %d places", i, n)
		}
	}
}

// BenchmarkMailboxLatest replaces messages of one topic after another.
func BenchmarkMailboxLatest(b *testing.B) {
	for _, topics := range []int{10, 1_000, 60_000} {
		b.Run(fmt.Sprint(topics), func(b *testing.B) {
			var box mailbox
			msgs := make([]Message, topics)
			for i := range msgs {
				msgs[i] = Message{Topic: fmt.Sprint("device/", i), QoS: 1}
				box.push(&msgs[i], time.Time{})
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				box.replace(msgs[i%topics], time.Time{})
			}
		})
	}
}

// A large ring is let go of when it is empty.
func TestMailboxShrinks(t *testing.T) {
	var b mailbox
	for range 4 * keepRing {
		b.push(&Message{QoS: 1}, time.Time{})
	}
	for b.len() > 0 {
		b.pop()
	}
	if n := len(b.rings[1].ring); n > keepRing {
		t.Fatalf("an empty mailbox keeps a ring of %d", n)
	}
}
