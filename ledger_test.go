package mqtt

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestAckOfAReplacedMessageIsStale(t *testing.T) {
	sub := &owner{}
	g := &ledger{pay: func(uint32, []byte) bool { return true }}
	g.up(1, V311, false, 0)
	_, first := g.arrive(inbound(7, 1, false), 1, time.Time{}, []*owner{sub})
	_, second := g.arrive(inbound(7, 1, false), 2, time.Time{}, []*owner{sub})
	if err := g.done(first, 7, sub); !errors.Is(err, ErrStale) {
		t.Fatalf("Ack of a message whose identifier went to another: %v, want ErrStale", err)
	}
	if err := g.done(second, 7, sub); err != nil {
		t.Fatal(err)
	}
	if err := g.done(second, 7, sub); !errors.Is(err, ErrAcked) {
		t.Fatalf("second Ack: %v, want ErrAcked", err)
	}
}

// mochi sends a message that comes while a session is taken over twice on the new
// link, the second time without DUP. At QoS 2 that must not deliver it twice
// [MQTT-4.3.3-10]; another message with that identifier is one.
func TestSecondPublishWithoutDupBeforePubrec(t *testing.T) {
	for _, c := range []struct {
		name string
		qos  QoS
		link uint32 // of the second PUBLISH
		hash uint64
		want arrival
	}{
		{"QoS 2, same link", 2, 1, 1, arrivedAgain},
		{"QoS 2, other content", 2, 1, 2, arrivedNew},
		{"QoS 2, next link", 2, 2, 1, arrivedNew}, // after a failover identifiers may begin anew
		{"QoS 1", 1, 1, 1, arrivedNew},
	} {
		for _, v := range []Version{V31, V311, V5} {
			t.Run(fmt.Sprintf("%s/%s", c.name, v), func(t *testing.T) {
				sub := &owner{}
				g := &ledger{pay: func(uint32, []byte) bool { return true }}
				g.up(1, v, false, 0)
				g.arrive(inbound(7, c.qos, true), 1, time.Time{}, []*owner{sub})
				if c.link == 2 {
					g.up(2, v, true, 0)
				}
				if got, _ := g.arrive(inbound(7, c.qos, false), c.hash, time.Time{}, []*owner{sub}); got != c.want {
					t.Errorf("arrival %v, want %v", got, c.want)
				}
			})
		}
	}
}

// 3.1 does not tell that the server lost the session: there only DUP makes a
// PUBLISH after its PUBREC a redelivery, or a new message would be lost.
func TestNewMessageAfterASessionLostUnseen(t *testing.T) {
	for _, v := range []Version{V31, V311, V5} {
		for _, dup := range []bool{false, true} {
			g := &ledger{pay: func(uint32, []byte) bool { return true }}
			g.up(1, v, false, 0)
			g.arrive(inbound(7, 2, false), 1, time.Time{}, nil)
			g.payAcks()
			g.up(2, v, true, 0)
			want := arrivedAgain
			if v == V31 && !dup {
				want = arrivedNew
			}
			if got, _ := g.arrive(inbound(7, 2, dup), 2, time.Time{}, nil); got != want {
				t.Errorf("%v, DUP %t: %d, want %d", v, dup, got, want)
			}
		}
	}
}

// A PUBREC that is asked for again must not overtake one that waits [MQTT-4.6.0-3].
func TestLedgerRepeatedPubrecKeepsOrder(t *testing.T) {
	sub := &owner{}
	var sent []sentPacket
	g := &ledger{pay: func(_ uint32, b []byte) bool { sent = append(sent, parseSent(V311, b)...); return true }}
	g.up(1, V311, false, 0)
	g.arrive(inbound(1, 2, false), 1, time.Time{}, nil)
	_, held := g.arrive(inbound(2, 2, false), 2, time.Time{}, []*owner{sub})
	g.payAcks()
	g.up(2, V311, true, 0)
	sent = nil
	g.arrive(inbound(2, 2, true), 2, time.Time{}, nil)
	g.arrive(inbound(1, 2, true), 1, time.Time{}, nil)
	g.payAcks()
	if len(sent) != 0 {
		t.Fatalf("%v left before the PUBREC of the first PUBLISH", sent)
	}
	g.done(held, 2, sub)
	g.payAcks()
	if got := fmt.Sprint(sent); got != "[PUBREC 2 PUBREC 1]" {
		t.Fatalf("sent %v", got)
	}
}

// inbound is the part of a received message that the ledger looks at.
func inbound(id uint16, qos QoS, dup bool) *Message {
	m := &Message{Topic: "t", id: id, QoS: qos}
	if dup {
		m.ref = flagDup
	}
	return m
}
