package chaos

import (
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/integration/broker"
	"github.com/millrace/mqtt/integration/tape"
)

// trial tells the faults of mochi 2.7.9, which has many when links are cut (see
// TestRestartLinkCutDisorderly), from those of the client, message by message, by
// the tapes that were made between mochi and the proxies. It takes mochi to have
// done only what the tapes show.
type trial struct {
	publisher         *given
	receiver, witness *handed
	ended             int // sessions and subscriptions that a client ended, and with that what the broker held
}

// account is what the tapes say about one client.
type account interface {
	link()
	see(packet)
}

// hear reads the tapes in a directory. Links stand there in the order in which
// the broker met them.
func hear(dir string) (*trial, error) {
	t := &trial{publisher: newGiven(), receiver: newHanded(), witness: newHanded()}
	accounts := map[string]account{
		clientID("publisher"): t.publisher, clientID("receiver"): t.receiver, clientID("witness"): t.witness,
	}
	tapes, err := broker.Tapes(dir)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, path := range tapes {
		begun := false
		err := tape.Replay(path, func(shown tape.Packet) error {
			a := accounts[shown.ClientID]
			if a == nil {
				return nil
			}
			if !begun {
				a.link()
				begun = true
			}
			switch shown.Frame.Type {
			case codec.CONNECT:
				var c codec.Connect
				if err := c.Decode(shown.Frame.Body); err != nil {
					return err
				}
				if c.CleanStart && known[shown.ClientID] {
					t.ended++
				}
				known[shown.ClientID] = true
			case codec.UNSUBSCRIBE:
				t.ended++
			}
			p, ok, err := decode(shown)
			if ok {
				a.see(p)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return t, nil
}

// excuse returns what judge asks about a QoS 2 message that a subscriber was
// handed twice: the broker may be blamed as often as it began the exchange anew,
// unless the publisher made it do so.
func (t *trial) excuse(h *handed, lane int) func(sight) bool {
	used := map[int]int{}
	return func(s sight) bool {
		m := message{lane, s.n}
		used[s.n]++
		return used[s.n] < h.begun[m] && !t.publisher.renewed[m]
	}
}

// forgot reports whether the broker lost a message that a subscriber did not
// get: it had acknowledged it to the publisher, and the subscriber neither
// acknowledged it nor had it on its last link, so that the broker still owed it.
func (t *trial) forgot(h *handed, m message, onLast map[int]bool) bool {
	return t.publisher.taken[m] && !h.acked[m] && !onLast[m.n]
}

// judge is what became of a lane, with the broker's part counted apart. failed
// are the numbers whose Future failed.
func (t *trial) judge(lane int, promised, failed, received, witnessed []sight) Lane {
	got := judge(promised, received, t.excuse(t.receiver, lane), nothing, nothing)
	seen := judge(promised, witnessed, t.excuse(t.witness, lane), nothing, nothing)
	l := Lane{
		QoS: lanes[lane], Promised: got.promised, Received: got.received, Again: got.again,
		Doubled: got.doubled + seen.doubled, ByBroker: got.byBroker + seen.byBroker,
		Disorder: t.publisher.disorder[lane] + t.receiver.unlike(lane, received) + t.witness.unlike(lane, witnessed),
		Resorted: got.reorder + seen.reorder,
	}
	if lanes[lane] == 2 {
		l.Examples = append(got.twice, seen.twice...)
	}
	refused, lost, forgotten := map[int]bool{}, map[int]bool{}, map[int]bool{}
	for _, s := range failed {
		if t.publisher.refused[message{lane, s.n}] {
			refused[s.n] = true
		} else {
			l.Failed++
		}
	}
	for h, missing := range map[*handed][]int{t.receiver: got.missing, t.witness: seen.missing} {
		onLast := h.onLast(lane)
		for _, n := range missing {
			switch m := (message{lane, n}); {
			case t.publisher.refused[m]:
				refused[n] = true
			case t.forgot(h, m, onLast):
				forgotten[n] = true
			default:
				lost[n] = true
				l.Examples = example(l.Examples, n)
			}
		}
	}
	l.Refused, l.Lost, l.Forgotten = len(refused), len(lost), len(forgotten)
	return l
}
