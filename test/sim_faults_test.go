package mqtt_test

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// holdable are the answers that may be kept back, reordered and doubled.
var holdable = []codec.Type{codec.PUBACK, codec.PUBREC, codec.PUBREL, codec.PUBCOMP, codec.SUBACK, codec.UNSUBACK}

// faults strike until stop, and then end.
func (w *world) faults(rng *rand.Rand, stop <-chan struct{}) {
	for {
		select {
		case <-time.After(time.Duration(rng.IntN(8000/w.plan.violence)) * time.Millisecond):
			w.strike(rng)
		case <-stop:
			w.heal()
			return
		}
	}
}

// strike is one fault.
func (w *world) strike(rng *rand.Rand) {
	l := w.network.Last()
	dir := server.Direction(1 + rng.IntN(3))
	one := server.Direction(1 + rng.IntN(2))
	n, d := rng.IntN(400), time.Duration(rng.IntN(2000))*time.Millisecond
	switch kind := rng.IntN(20); {
	case kind < 9 && l != nil:
		w.strikeLink(rng, kind, l, dir, one, n, d)
	case kind == 9:
		w.log("refuse %d dials", 1+n%3)
		w.network.RefuseDials(1+n%3, nil)
	case kind == 10:
		w.log("a silent or unanswered dial")
		w.network.RefuseDials(1, []error{server.ErrSilent, server.ErrUnanswered}[n%2])
	case kind == 11:
		w.log("dials take %v", d)
		w.network.DelayDials(d)
	case kind == 12:
		w.log("the server restarts")
		w.srv.Restart(true)
	case kind == 13 && w.plan.loses:
		w.loseSession(rng.IntN(2) == 0)
	case kind == 14:
		w.holdAnswers(rng)
	case kind == 15:
		w.log("release")
		w.srv.Release(func(held []server.Ack) []server.Ack { return w.arrange(rng, held) })
	case kind == 16 || kind == 17:
		w.log("redeliver: %v", w.srv.Redeliver("c"))
	case kind == 18:
		w.log("the server says goodbye")
		w.srv.Disconnect("c", codec.ServerShuttingDown)
	case kind == 19:
		w.log("refuse %d CONNECTs", 1+n%2)
		w.srv.RefuseConnects(1+n%2, codec.ServerUnavailable)
	}
}

func (w *world) strikeLink(rng *rand.Rand, kind int, l *server.Link, dir, one server.Direction, n int, d time.Duration) {
	switch kind {
	case 0, 1:
		w.log("link %d: cut", l.Number())
		l.Cut()
	case 2, 3:
		w.log("link %d: cut after %d bytes in direction %d", l.Number(), n, one)
		l.CutAfter(one, int64(n))
	case 4:
		w.log("link %d: stall %d", l.Number(), dir)
		l.Stall(dir)
	case 5:
		if w.halfOpen == l {
			return
		}
		w.log("link %d: stall %d for %v", l.Number(), dir, d)
		l.Stall(dir)
		time.Sleep(d)
		l.Resume(dir)
	case 6:
		// Never resumed: bytes out of the middle of a stream are no fault that TCP has.
		w.log("link %d: half-open in %d", l.Number(), one)
		w.halfOpen = l
		l.Drop(one)
		l.Stall(server.Both &^ one)
	case 7:
		w.log("link %d: chunks of %d", l.Number(), n%3)
		l.Chunk(dir, n%3)
	case 8:
		w.log("link %d: delay %v in %d", l.Number(), d/4, dir)
		l.Delay(dir, d/4)
	}
}

// loseSession makes the server forget.
func (w *world) loseSession(all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("session lost")
	w.losses++
	w.voidAll()
	clear(w.kept)
	if all {
		w.srv.Restart(false)
	} else {
		w.srv.DropSession("c")
	}
}

func (w *world) holdAnswers(rng *rand.Rand) {
	for _, t := range holdable {
		if rng.IntN(2) == 0 {
			w.log("hold %v", t)
			w.srv.Hold(t)
		}
	}
}

// arrange reorders answers that do not depend on each other, and loses or doubles some.
func (w *world) arrange(rng *rand.Rand, held []server.Ack) (sent []server.Ack) {
	rng.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
	for _, a := range held {
		switch rng.IntN(10) {
		case 0:
		case 1:
			sent = append(sent, a, a)
		default:
			sent = append(sent, a)
		}
	}
	return sent
}

// fate is the server's hook for each answer.
func (w *world) fate(a server.Ack) server.Fate {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n, ok := w.asked[a.PacketID]; ok && (a.Type == codec.PUBACK || a.Type == codec.PUBCOMP) {
		w.ended[n] = true
	}
	if w.calm || w.rng.IntN(100) >= w.plan.ackFaults {
		return server.Fate{}
	}
	d := time.Duration(w.rng.IntN(3000)) * time.Millisecond
	switch a.Type {
	case codec.CONNACK, codec.PINGRESP:
		if w.rng.IntN(2) == 0 {
			return server.Fate{Withhold: true}
		}
		return server.Fate{Delay: d}
	}
	switch w.rng.IntN(4) {
	case 0:
		return server.Fate{Withhold: true}
	case 1:
		return server.Fate{Extra: 1 + w.rng.IntN(2)}
	case 2:
		return server.Fate{Delay: d, Extra: 1}
	}
	return server.Fate{Delay: d}
}

// taken is the server's hook for each PUBLISH.
func (w *world) taken(r server.Received) codec.ReasonCode {
	number, _, _ := strings.Cut(string(r.Payload), " ")
	n, err := strconv.Atoi(number)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && r.QoS > 0 {
		w.asked[r.PacketID] = n
	}
	return codec.Success
}

// onLink gives some links a fault to be born with.
func (w *world) onLink(l *server.Link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("link %d begins", l.Number())
	if w.calm || w.rng.IntN(100) >= w.plan.linkFaults {
		return
	}
	d := server.Direction(1 + w.rng.IntN(2))
	switch n := w.rng.IntN(300); w.rng.IntN(3) {
	case 0:
		w.note("cut after %d bytes in %d", n, d)
		l.CutAfter(d, int64(n))
	case 1:
		l.Chunk(server.Both, 1)
	case 2:
		l.Delay(d, time.Duration(n)*time.Millisecond)
	}
}

// heal ends all faults. The links that had some go with them.
func (w *world) heal() {
	w.mu.Lock()
	w.calm = true
	w.note("the network is well again")
	w.mu.Unlock()
	w.srv.RefuseConnects(0, 0)
	w.srv.Release(nil)
	w.network.OnDial(nil)
	w.network.DelayDials(0)
	w.network.CutAll()
}

// onConnect counts the sessions that begin.
func (w *world) onConnect(*codec.Connect) (codec.ReasonCode, *codec.Properties) {
	_, present := w.srv.Session("c")
	w.mu.Lock()
	defer w.mu.Unlock()
	if !present {
		w.fresh++
	}
	return codec.Success, nil
}

// sessions is how many sessions the server has made.
func (w *world) sessions() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(1, w.fresh)
}

// hidden reports whether the client may have missed that its session was lost.
func (w *world) hidden() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.losses > 0 && w.fresh != w.told
}
