package mqtt_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/mqtt"
)

// outMessage is a message that the client published.
type outMessage struct {
	number, publisher, n int
	qos                  mqtt.QoS
	f                    *mqtt.Future // the latest
	process              *simProcess  // of f
	expires              bool
	canceled             bool // by Future.Cancel
	bounded              bool // Publish had a context of its own
	tried                bool // TryPublish
	resolved             bool
	err                  error // of a resolved Future
	survivor             bool  // stored when its process died
	unseen               bool  // not found by the next process
	undone               bool  // its end was not noted before the crash
}

func (m *outMessage) key() string { return strconv.Itoa(m.number) }

func (m *outMessage) String() string {
	return fmt.Sprintf("message %d (publisher %d, QoS %d)", m.number, m.publisher, m.qos)
}

// publisher publishes until the process ends.
func (p *simProcess) publisher(number int, rng *rand.Rand) {
	for n := 0; p.pause(rng, []time.Duration{0, 50 * time.Millisecond, 3 * time.Second}[rng.IntN(3)]); n++ {
		m := p.w.newOut(p, number, n, rng)
		msg := mqtt.Message{Topic: fmt.Sprintf("out/%d", number), QoS: m.qos, Properties: &mqtt.Properties{Key: m.key()}}
		msg.Payload = []byte(m.key() + " " + strings.Repeat("x", rng.IntN(1+rng.IntN(200))))
		if p.w.plan.version == mqtt.V5 && rng.IntN(8) == 0 {
			m.expires = true
			msg.Properties.Expiry = time.Duration(1+rng.IntN(20)) * time.Second
		}
		p.publish(m, msg, rng)
	}
}

func (w *world) newOut(p *simProcess, publisher, n int, rng *rand.Rand) *outMessage {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := &outMessage{number: len(w.out), publisher: publisher, n: n, qos: mqtt.QoS(rng.IntN(3)), process: p}
	w.out = append(w.out, m)
	return m
}

func (p *simProcess) publish(m *outMessage, msg mqtt.Message, rng *rand.Rand) {
	ctx, cancel := p.ctx, context.CancelFunc(func() {})
	var f *mqtt.Future
	switch rng.IntN(6) {
	case 0:
		m.tried = true
		f = p.conn.TryPublish(msg)
	case 1:
		m.bounded = true
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(2000))*time.Millisecond)
		fallthrough
	default:
		f = p.conn.Publish(ctx, msg)
	}
	cancel()
	if rng.IntN(20) == 0 {
		m.canceled = f.Cancel()
	}
	p.w.follow(p, m, f)
}

// follow notes what becomes of the Future of m in process p.
func (w *world) follow(p *simProcess, m *outMessage, f *mqtt.Future) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m.f, m.process, m.resolved = f, p, false
	if s := p.conn.Stats(); w.plan.queue > 0 && s.Queued > w.plan.queue || w.plan.queueBytes > 0 && s.QueuedBytes > w.plan.queueBytes {
		w.t.Errorf("O8: %d messages of %d bytes are queued, the limits are %d and %d", s.Queued, s.QueuedBytes, w.plan.queue, w.plan.queueBytes)
	}
	p.actors.Go(func() {
		<-f.Done()
		w.mu.Lock()
		defer w.mu.Unlock()
		m.resolved, m.err = true, f.Err()
		if m.err == nil && m.qos > 0 && !w.ended[m.number] {
			w.broken("O2: %v resolved with nil, and the server has not answered", m)
		}
	})
}

// survivors notes what was stored when p died, before and after its Conn
// noticed: it must be with the next process.
func (w *world) survivors(p *simProcess) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.out {
		if m.process != p || m.f == nil || m.qos == 0 {
			continue
		}
		switch m.f.Stage() {
		case mqtt.StageStored, mqtt.StageSent, mqtt.StageReceived:
			m.survivor = true
		case mqtt.StageDone:
			failed, ok := errors.AsType[*mqtt.PublishError](m.f.Err())
			m.survivor = m.survivor || ok && failed.Kept
		}
	}
}

// recover follows the messages that former processes left.
func (w *world) recover(p *simProcess) {
	w.mu.Lock()
	all := w.out
	w.mu.Unlock()
	for _, m := range all {
		f := p.conn.Lookup(m.key())
		switch {
		case f != nil:
			// An end that the process did not live to note may be undone: then the
			// message is sent, or sent again.
			if m.f != nil && !m.survivor && m.f.Err() != nil && !endedHere(m.f.Err()) {
				w.fail("O3: %v is in the store, its Future said %v", m, m.f.Err())
			}
			m.undone = m.undone || m.f != nil && endedHere(m.f.Err())
			m.survivor = false
			w.follow(p, m, f)
		case m.survivor:
			m.survivor, m.unseen = false, true
		}
	}
}

// checkOut is O1 to O7, once nothing can arrive any more.
func (w *world) checkOut() {
	arrivals, first := make([]int, len(w.out)), map[string]int{}
	for _, r := range w.srv.Received() {
		number, _, _ := strings.Cut(string(r.Payload), " ")
		i, err := strconv.Atoi(number)
		if err != nil || i >= len(w.out) {
			w.fail("the server got %q", r.Payload)
			continue
		}
		if arrivals[i]++; arrivals[i] > 1 {
			continue
		}
		m := w.out[i]
		if m.undone {
			continue
		}
		line := fmt.Sprintf("publisher %d, QoS %d", m.publisher, m.qos)
		if before, ok := first[line]; ok && before > i {
			w.fail("O6: %v first arrived after message %d", m, before)
		}
		first[line] = i
	}
	for i, m := range w.out {
		if m.f != nil {
			w.checkOne(m, arrivals[i])
		}
	}
}

func (w *world) checkOne(m *outMessage, arrivals int) {
	err := m.f.Err()
	p, _ := errors.AsType[*mqtt.PublishError](err)
	switch {
	case !m.resolved || err == mqtt.ErrPending:
		w.fail("O1: %v never resolved", m)
	case err != m.err:
		w.fail("O1: %v resolved with %v, then %v", m, m.err, err)
	case err == nil && m.qos > 0 && arrivals == 0:
		w.fail("O2: %v is lost", m)
	case err != nil && p == nil:
		w.fail("O4: %v: %v is no PublishError", m, err)
	case err != nil && !p.MayHaveArrived && !p.Kept && arrivals > 0:
		w.fail("O3: %v arrived: %v", m, err)
	case err != nil && !w.excused(m, err):
		w.fail("O4: %v: %v", m, err)
	case m.qos != 1 && arrivals > 1 && !w.hidden() && !(m.qos == 2 && w.plan.lost2 == mqtt.LostPublish && (w.losses > 0 || !w.plan.durable)):
		w.fail("O5: %v arrived %d times", m, arrivals)
	case m.unseen && arrivals == 0 && w.losses == 0 && !m.expires && !m.canceled && w.plan.policy != mqtt.QueueDropOldest:
		w.fail("O7: %v was stored and is gone", m)
	}
}

// excused reports whether the run holds a cause for err.
func (w *world) excused(m *outMessage, err error) bool {
	_, store := errors.AsType[*mqtt.StoreError](err)
	_, large := errors.AsType[*mqtt.PacketTooLargeError](err)
	switch {
	case errors.Is(err, mqtt.ErrSessionLost):
		return m.qos > 0 && (w.losses > 0 || !w.plan.durable)
	case errors.Is(err, mqtt.ErrDropped):
		return w.plan.policy >= mqtt.QueueDropOldest
	case errors.Is(err, mqtt.ErrQueueFull):
		return m.tried || w.plan.policy == mqtt.QueueFail
	case errors.Is(err, mqtt.ErrCanceled):
		return m.canceled
	case errors.Is(err, mqtt.ErrExpired):
		return m.expires
	case errors.Is(err, mqtt.ErrSetAside):
		// Each took three links with it, behind two that died young.
		w.asides++
		return m.qos > 0 && 3*w.asides+2 <= w.network.Last().Number()
	case errors.Is(err, mqtt.ErrNotConnected):
		return m.qos == 0 && !w.plan.queueQoS0
	case errors.Is(err, mqtt.ErrLinkLost):
		return m.qos == 0
	case errors.Is(err, context.DeadlineExceeded):
		return m.bounded
	case errors.Is(err, context.Canceled), errors.Is(err, mqtt.ErrClosed):
		return m.process.over
	case store:
		return m.process.disk != nil && m.process.disk.isDead()
	}
	return large && w.plan.queueBytes > 0
}

// endedHere reports whether err is an end that the client itself decided on.
func endedHere(err error) bool {
	for _, end := range []error{mqtt.ErrDropped, mqtt.ErrCanceled, mqtt.ErrExpired, mqtt.ErrSessionLost, mqtt.ErrSetAside} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}
