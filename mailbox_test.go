package mqtt

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/millrace/mqtt/internal/chance"
)

// A mailbox equals a plain slice under random pushes, takes, drops and
// replacements.
func TestMailboxModel(t *testing.T) {
	seed := chance.Seed(t)
	for round := range uint64(300) {
		rng := chance.Stream(seed, round)
		var b mailbox
		var want []Message
		hand := []Message{} // taken, may be put back
		check := func(what string, got, exp Message) {
			if got.Topic != exp.Topic || string(got.Payload) != string(exp.Payload) || got.QoS != exp.QoS {
				t.Fatalf("round %d: %s %q %q, want %q %q", round, what, got.Topic, got.Payload, exp.Topic, exp.Payload)
			}
		}
		for i := range 400 {
			m := Message{Topic: fmt.Sprint("t", rng.IntN(9)), QoS: QoS(rng.IntN(3)), Payload: fmt.Append(nil, i)}
			switch n := rng.IntN(12); {
			case n < 5:
				b.push(&m, time.Time{})
				want = append(want, m)
			case n < 7 && len(want) > 0:
				got := b.pop()
				check("popped", got, want[0])
				want, hand = want[1:], append(hand, got)
			case n < 8 && len(hand) > 0:
				m := hand[len(hand)-1]
				hand = hand[:len(hand)-1]
				b.unpop(m)
				want = append([]Message{m}, want...)
			case n < 9:
				got, ok := b.drop0()
				at := slices.IndexFunc(want, func(m Message) bool { return m.QoS == 0 })
				if ok != (at >= 0) {
					t.Fatalf("round %d: drop0 %v, oldest QoS 0 at %d", round, ok, at)
				}
				if ok {
					check("dropped", got, want[at])
					want = slices.Delete(want, at, at+1)
				}
			case n < 10:
				want = replaceModel(t, &b, m, want)
			case n < 11:
				topic := m.Topic
				pick := func(m *Message) bool { return m.Topic == topic }
				for _, got := range b.cutAll(pick) {
					at := slices.IndexFunc(want, func(m Message) bool { return pick(&m) })
					check("cut", got, want[at])
					want = slices.Delete(want, at, at+1)
				}
			}
			checkSizes(t, &b, want)
		}
		for _, m := range want {
			check("at the end", b.pop(), m)
		}
		if b.len() != 0 || b.size() != 0 {
			t.Fatalf("round %d: %d messages, %d B left", round, b.len(), b.size())
		}
	}
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

// replaceModel is replace: QoS 0 is looked at before the rest; in its own class
// the new message takes the place of the old one, else it comes last.
func replaceModel(t *testing.T, b *mailbox, m Message, want []Message) []Message {
	at := -1
	for _, zero := range []bool{true, false} {
		if at < 0 {
			at = slices.IndexFunc(want, func(x Message) bool { return x.Topic == m.Topic && (x.QoS == 0) == zero })
		}
	}
	old, ok := b.replace(m, time.Time{})
	if ok != (at >= 0) {
		t.Fatalf("replaced %v, pending at %d", ok, at)
	}
	if !ok {
		return want
	}
	if string(old.Payload) != string(want[at].Payload) {
		t.Fatalf("replaced %q, want %q", old.Payload, want[at].Payload)
	}
	if (old.QoS == 0) == (m.QoS == 0) {
		want[at] = m
		return want
	}
	return append(slices.Delete(want, at, at+1), m)
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
