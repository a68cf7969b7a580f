package mqtt_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/mqtttest/server"
)

// Whatever moment a process dies at, what it had stored reaches the server after the
// next start, in order, QoS 2 once, and no Future ever said nil of what the server
// has not got.
func TestCrashesAtRandom(t *testing.T) {
	seed := chance.Seed(t)
	for round := range chance.Rounds(40, 5000) {
		for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
			synctest.Test(t, func(t *testing.T) { randomCrashes(t, v, chance.Stream(seed, uint64(round))) })
			if t.Failed() {
				t.Fatalf("round %d, %v", round, v)
			}
		}
	}
}

// published is what a test knows of one message.
type published struct {
	f      *mqtt.Future
	qos    mqtt.QoS
	stored bool // it must arrive
	done   bool // its Future said nil
}

func randomCrashes(t *testing.T, v mqtt.Version, rng *rand.Rand) {
	network := &server.Network{}
	srv := server.Start(network, server.Config{})
	d := newDisk()
	var all []*published
	const processes = 5
	for n := range processes {
		p := d.process(network)
		p.rng = rand.New(rand.NewPCG(rng.Uint64(), 1))
		if n < processes-1 {
			p.commits, p.after = 1+rng.IntN(30), rng.IntN(2) == 0
			cutAtRandom(network, rng.IntN(3), rng)
		} else {
			cutAtRandom(network, 0, rng)
		}
		conn := p.connect(t, v, mqtt.WithMaxInflight(1+rng.IntN(20)), mqtt.WithStoreMemory(rng.IntN(40)))
		if conn == nil {
			continue
		}
		for range 40 {
			m := &published{qos: mqtt.QoS(1 + rng.IntN(2))}
			m.f = conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: strconv.AppendInt(nil, int64(len(all)), 10), QoS: m.qos})
			all = append(all, m)
			if rng.IntN(8) == 0 {
				time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
			}
		}
		if n == processes-1 {
			flush(t, conn)
		} else {
			time.Sleep(time.Duration(rng.IntN(5000)) * time.Millisecond)
			p.kill()
		}
		for _, m := range all {
			if m.f != nil {
				m.stored = m.f.Stage() == mqtt.StageStored || m.f.Stage() == mqtt.StageSent || m.f.Stage() == mqtt.StageReceived
				m.done = m.f.Err() == nil
			}
		}
		conn.Abort()
		if n == processes-1 {
			checkEmpty(t, d)
		}
		for _, m := range all {
			m.f = nil
		}
	}
	synctest.Wait()
	srv.Close()
	checkArrived(t, all, srv.Received())
	for _, v := range srv.Violations() {
		t.Error(v)
	}
}

// checkArrived compares what was published with what the server got.
func checkArrived(t *testing.T, all []*published, received []server.Received) {
	t.Helper()
	count := make([]int, len(all))
	last := map[mqtt.QoS]int{1: -1, 2: -1}
	for _, r := range received {
		i, err := strconv.Atoi(string(r.Payload))
		if err != nil || i >= len(all) {
			t.Fatalf("the server got %q", r.Payload)
		}
		if count[i]++; count[i] > 1 {
			continue
		}
		if q := all[i].qos; i < last[q] {
			t.Errorf("%d at QoS %d first arrived after %d", i, q, last[q])
		} else {
			last[q] = i
		}
	}
	for i, m := range all {
		switch {
		case count[i] == 0 && (m.stored || m.done):
			t.Errorf("message %d at QoS %d is lost: stored %t, Future nil %t", i, m.qos, m.stored, m.done)
		case count[i] > 1 && m.qos == 2:
			t.Errorf("message %d at QoS 2 arrived %d times", i, count[i])
		}
	}
	if t.Failed() {
		t.Log(fmt.Sprint(count))
	}
}
