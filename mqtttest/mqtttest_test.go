package mqtttest_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest"
	"github.com/millrace/mqtt/mqtttest/server"
)

// From outside, in a bubble: a server in memory with faults (drop, delay,
// duplicate, cut after a packet, refuse), and a Conn that lives through them.
func TestConnLivesThroughServerFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		withheld, arrived := 0, 0
		broker := mqtttest.Start(t, mqtttest.Config{
			OnAck: func(a mqtttest.Ack) mqtttest.Fate {
				switch {
				case a.Type == codec.PUBACK && withheld == 0:
					withheld++
					return mqtttest.Fate{Withhold: true}
				case a.Type == codec.PUBACK:
					return mqtttest.Fate{Delay: time.Second, Extra: 1}
				}
				return mqtttest.Fate{}
			},
			OnPacket: func(id string, p server.Packet) bool {
				if p.Type == codec.PUBLISH {
					arrived++
				}
				return false
			},
		})
		conn := mqtttest.Connect(t, broker, mqtt.WithClientID("c"), mqtt.WithSession(time.Hour))
		first := conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		synctest.Wait()
		broker.Network.RefuseDials(2, nil)
		broker.Network.Last().CutAfter(mqtttest.ToServer, 3)
		second := conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		for _, f := range []*mqtt.Future{first, second} {
			if err := f.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if arrived != 3 || broker.Network.Dials() != 4 {
			t.Errorf("%d PUBLISH packets, %d dials", arrived, broker.Network.Dials())
		}
		for _, v := range broker.Violations() {
			t.Error(v)
		}
	})
}

// A Future in each stage.
func TestFutureInEachStage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, x := mqtttest.NewFuture()
		if f.Stage() != mqtt.StageQueued || f.Err() != mqtt.ErrPending || f.Cancel() {
			t.Errorf("%v %v", f.Stage(), f.Err())
		}
		x.Advance(mqtt.StageSent, 7)
		x.Advance(mqtt.StageReceived, 7)
		if f.Stage() != mqtt.StageReceived || f.PacketID() != 7 {
			t.Errorf("%v %d", f.Stage(), f.PacketID())
		}
		x.Advance(mqtt.StageDone, 7) // only Resolve ends it
		x.Resolve(mqtt.Result{}, mqtt.ErrPending)
		if f.Err() != mqtt.ErrPending {
			t.Errorf("%v", f.Err())
		}
		time.AfterFunc(time.Minute, func() { x.Resolve(mqtt.Result{Code: 0x10, Reason: "nobody"}, nil) })
		if err := f.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		x.Resolve(mqtt.Result{}, mqtt.ErrClosed)
		if r := f.Result(); r.Code != 0x10 || r.Reason != "nobody" || r.PacketID != 7 || f.Err() != nil {
			t.Errorf("%+v %v", r, f.Err())
		}
		failed := mqtttest.ResolvedFuture(mqtt.ErrDropped)
		if err := mqtt.WaitAll(t.Context(), f, failed); !errors.Is(err, mqtt.ErrDropped) {
			t.Errorf("%v", err)
		}
	})
}

var fedMessage = mqtt.Message{Topic: "t", Payload: []byte("x"), QoS: 1}

// A Subscription fed by the test, in each form of consuming.
func TestSubscriptionFedByTheTest(t *testing.T) {
	t.Run("nil option", feedWithNilOption)
	t.Run("channel", feedAChannel)
	t.Run("iterator", feedAnIterator)
	t.Run("manual", feedWithManualAck)
	t.Run("unsubscribe", feedUntilUnsubscribe)
}

func feedWithNilOption(t *testing.T) {
	sub, feed := mqtttest.NewSubscription("t", nil)
	if !errors.Is(sub.Err(), mqtt.ErrInvalid) || feed.Send(fedMessage) {
		t.Errorf("%v, or a message was taken", sub.Err())
	}
}

func feedAChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sub, feed := mqtttest.NewSubscription("t", mqtt.WithBuffer(1))
		if sub.Granted() != 1 || sub.Filters()[0].Pattern != "t" || sub.Err() != nil {
			t.Errorf("%v %v %v", sub.Granted(), sub.Filters(), sub.Err())
		}
		<-sub.Ready()
		for range 3 {
			if !feed.Send(fedMessage) {
				t.Error("not taken")
			}
		}
		c := sub.C()
		synctest.Wait()
		if n := feed.Acked(); n != 1 {
			t.Errorf("%d acknowledged with one in the channel", n)
		}
		for range 3 {
			<-c
		}
		synctest.Wait()
		if n := feed.Acked(); n != 3 {
			t.Errorf("%d acknowledged", n)
		}
		lost := errors.New("lost")
		feed.End(lost)
		if _, open := <-c; open || sub.Err() != lost || feed.Send(fedMessage) {
			t.Errorf("open %t, %v", open, sub.Err())
		}
	})
}

func feedAnIterator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sub, feed := mqtttest.NewSubscription("t")
		feed.Send(fedMessage)
		feed.Send(fedMessage)
		for range sub.All() {
			if feed.Acked() != 0 {
				t.Error("acknowledged before the body returned")
			}
			break
		}
		if n := feed.Acked(); n != 1 {
			t.Errorf("%d acknowledged", n)
		}
	})
}

func feedWithManualAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sub, feed := mqtttest.NewSubscription("t", mqtt.WithManualAck())
		var got []mqtt.Message
		c := sub.C()
		for range 3 {
			feed.Send(fedMessage)
			got = append(got, <-c)
		}
		for i, want := range []int{0, 0, 3} { // in the order of arrival
			if err := got[2-i].Ack(); err != nil {
				t.Error(err)
			}
			if n := feed.Acked(); n != want {
				t.Errorf("%d acknowledged, want %d", n, want)
			}
		}
		if err := got[0].Ack(); !errors.Is(err, mqtt.ErrAcked) {
			t.Errorf("%v", err)
		}
	})
}

func feedUntilUnsubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sub, _ := mqtttest.NewSubscription("t")
		c := sub.C()
		if err := sub.Unsubscribe(t.Context()); err != nil {
			t.Error(err)
		}
		if _, open := <-c; open || !errors.Is(sub.Err(), mqtt.ErrUnsubscribed) {
			t.Errorf("%v", sub.Err())
		}
	})
}

// Code under test that connects by itself gets the options.
func TestOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := mqtttest.Start(t, mqtttest.Config{})
		conn, err := mqtt.Connect(t.Context(), "mqtt://anywhere", broker.Options()...)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A Peer sees the bytes.
func TestPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var network mqtttest.Network
		peer := mqtttest.NewPeer(t, &network)
		go mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial), mqtt.WithVersions(mqtt.V311), mqtt.WithClientID("c"))
		w := peer.Accept(t.Context())
		w.Expect("10 0D 0004 4D515454 04 02 003C 0001 63")
		w.Send(server.ConnackVersion3)
		w.ExpectEOF()
	})
}
