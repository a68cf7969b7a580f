package mqtt_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// fifty subscribes to 50 filters.
func fifty(t *testing.T, c *mqtt.Conn) (subs []*mqtt.Subscription, filters []string) {
	for i := range 50 {
		f := fmt.Sprintf("t/%02d", i)
		filters = append(filters, f)
		subs = append(subs, subscribe(t, c, f))
	}
	return subs, filters
}

// Session lost: each is sent exactly once, 8 a packet, and the same channels carry on.
func TestResubscribeAfterALostSession(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{})
		subs, filters := fifty(t, conn)
		channels := make([]<-chan mqtt.Message, len(subs))
		for i, s := range subs {
			channels[i] = s.C()
		}
		srv.Cut("c")
		eventually(t, "resubscribed", func() bool { return len(held(srv)) == 50 })
		packets := asked(t, srv, v, codec.SUBSCRIBE, 1)[50:] // a clean session counts its links anew
		if !slices.Equal(sorted(packets), filters) {
			t.Errorf("sent %v", packets)
		}
		if len(packets) != 7 {
			t.Errorf("%d packets, want 7", len(packets))
		}
		for i, s := range subs {
			publish(t, srv, filters[i], 1, filters[i])
			expect(t, channels[i], filters[i])
			if s.C() != channels[i] || s.Err() != nil {
				t.Errorf("%s: another channel, or %v", filters[i], s.Err())
			}
		}
	})
}

// SUBSCRIBEs are on the wire before queued publishes, without waiting for their SUBACKs.
func TestResubscribeBeforeQueuedPublishes(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		s.subscribed("a", 1)
		s.Cut()
		synctest.Wait()
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "q", QoS: 1})
		s.next(connack(v, false))
		options := 1
		if v == mqtt.V5 {
			options = 0x11 // Retain Handling 1
		}
		s.ExpectBytes(rawSubscribe(v, 2, 2, "a", options))
		s.expectPublish(0x32, 3, "q", "")
	})
}

// Packets keep to the server's limit.
func TestResubscribeKeepsToThePacketLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, srv, _ := serve(t, mqtt.V5, server.Config{})
		_, filters := fifty(t, conn)
		var p codec.Properties
		p.MaximumPacketSize = 40
		p.Present = p.Present.With(codec.PropMaximumPacketSize)
		srv.Change(func(c *server.Config) { c.Connack = &p })
		srv.Cut("c")
		eventually(t, "resubscribed", func() bool { return slices.Equal(held(srv), filters) })
		n := 0
		for _, p := range srv.Packets("c") {
			if p.Type == codec.SUBSCRIBE && len(p.Body) > 2 && p.FromClient {
				n++
				if n > 50 && p.Size > 40 {
					t.Errorf("a SUBSCRIBE of %d bytes", p.Size)
				}
			}
		}
	})
}

// Session resumed: nothing that was granted is sent, unless asked for.
func TestResumedSessionIsNotResubscribed(t *testing.T) {
	for _, always := range []bool{false, true} {
		t.Run(fmt.Sprintf("always %v", always), func(t *testing.T) {
			inEachVersion(t, func(t *testing.T, v mqtt.Version) {
				opts := []mqtt.ConnectOption{mqtt.WithSession(time.Hour)}
				if always {
					opts = append(opts, mqtt.WithResubscribeOnReconnect())
				}
				conn, srv, _ := serve(t, v, server.Config{}, opts...)
				subs, filters := fifty(t, conn)
				srv.Cut("c")
				eventually(t, "reconnect", func() bool { return links(srv) == 2 })
				time.Sleep(time.Second)
				var want []string
				if always || v == mqtt.V31 { // 3.1 cannot tell whether the session was resumed
					want = filters
				}
				if got := sorted(asked(t, srv, v, codec.SUBSCRIBE, 2)); !slices.Equal(got, want) {
					t.Errorf("sent %v", got)
				}
				publish(t, srv, filters[7], 1, "x")
				expect(t, subs[7].C(), "x")
			})
		})
	}
}

// What was unanswered at the cut is sent again in the resumed session, with
// new identifiers, and the UNSUBSCRIBE of what was removed offline.
func TestUnansweredAndRemovedOfflineAreSentAgain(t *testing.T) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		synctest.Test(t, func(t *testing.T) {
			s := script(t, v, mqtt.WithSession(time.Hour))
			kept, gone, off := s.subscribed("kept", 1), s.subscribed("gone", 1), s.subscribed("off", 1)
			subscribe(t, s.conn, "new", mqtt.WithoutWaiting())
			first := s.ExpectPacket()
			done := make(chan error, 1)
			go func() { done <- gone.Unsubscribe(t.Context()) }()
			s.ExpectBytes(rawUnsubscribe(v, 5, "gone"))
			s.Cut()
			if err := <-done; err != nil {
				t.Errorf("Unsubscribe over a cut: %v", err)
			}
			if err := off.Unsubscribe(t.Context()); err != nil {
				t.Errorf("Unsubscribe offline: %v", err)
			}
			s.next(connack(v, true))
			s.ExpectBytes(rawUnsubscribe(v, 6, "gone", "off"))
			// With the same subscription identifier, which messages may carry by now.
			s.ExpectBytes(slices.Concat(first[:2], []byte{0, 7}, first[4:]))
			s.suback(0xB0, 6, 0, 0)
			s.suback(0x90, 7, 1)
			s.recut(connack(v, true))
			s.ExpectNothing(time.Second)
			s.message(0x30, 0, "kept", "x")
			expect(t, kept.C(), "x")
			// In a lost session there is nothing to remove.
			off2 := s.subscribed("off", 1)
			s.Cut()
			synctest.Wait()
			off2.Unsubscribe(t.Context())
			s.next(connack(v, false))
			p := s.ExpectPacket()
			if p[0] != 0x82 || slices.Contains(p, 'f') {
				t.Errorf("got % X", p)
			}
			s.ExpectNothing(time.Second)
		})
	}
}

// The link drops during resubscribing, then it starts over.
func TestResubscribeStartsOverAfterACut(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, _ := serve(t, v, server.Config{})
		subs, filters := fifty(t, conn)
		cuts := 0
		srv.Change(func(c *server.Config) {
			c.OnPacket = func(id string, p server.Packet) bool {
				if p.Type == codec.SUBSCRIBE && cuts < 5 && (cuts+len(p.Body))%3 == 0 {
					cuts++
					srv.Cut(id)
					return true
				}
				return false
			}
			c.OnAck = func(a server.Ack) server.Fate {
				return server.Fate{Withhold: a.Type == codec.SUBACK && cuts > 0 && cuts < 5}
			}
		})
		srv.Cut("c")
		eventually(t, "all are back", func() bool { return slices.Equal(held(srv), filters) })
		time.Sleep(time.Minute)
		for i, s := range subs {
			publish(t, srv, filters[i], 1, "x")
			expect(t, s.C(), "x")
		}
	})
}

// Subscribing and unsubscribing while the link comes and goes: what the server
// has in the end is what the client has.
func TestSubscribeRacesLinkLoss(t *testing.T) {
	for _, v := range versions {
		for _, session := range []time.Duration{0, time.Hour} {
			network := &server.Network{}
			srv := server.Start(network, server.Config{})
			opts := []mqtt.ConnectOption{mqtt.WithClientID("c"), mqtt.WithVersions(v), mqtt.WithDialer(network.Dial), mqtt.WithBackoff(steady(time.Microsecond)), mqtt.WithStableAfter(time.Hour)}
			if session > 0 {
				opts = append(opts, mqtt.WithSession(session))
			}
			conn, err := mqtt.Connect(t.Context(), "mqtt://server", opts...)
			if err != nil {
				t.Fatal(err)
			}
			stop := make(chan struct{})
			cut := make(chan struct{})
			go func() {
				defer close(cut)
				for {
					select {
					case <-stop:
						return
					default:
						srv.Cut("c")
						conn.WaitConnected(t.Context())
					}
				}
			}()
			var want []string
			for i := range 150 {
				f := fmt.Sprintf("t/%d", i)
				sub, err := conn.Subscribe(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				if i%3 == 0 {
					want = append(want, f)
					continue
				}
				if err := sub.Unsubscribe(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			close(stop)
			<-cut
			slices.Sort(want)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if err := srv.Wait(ctx, func() bool { return slices.Equal(held(srv), want) }); err != nil {
				t.Errorf("%v, session %v: the server holds %v, want %v", v, session, held(srv), want)
			}
			cancel()
			conn.Close()
			srv.Close()
			for _, v := range srv.Violations() {
				t.Error(v)
			}
		}
	}
}

// Removed while offline, then subscribed again before the link is back.
func TestFilterRemovedAndMadeAgainOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V311, mqtt.WithSession(time.Hour))
		first := s.subscribed("a", 1)
		s.Cut()
		synctest.Wait()
		first.Unsubscribe(t.Context())
		second := subscribe(t, s.conn, "a", mqtt.WithoutWaiting())
		s.next(connack(mqtt.V311, true))
		s.ExpectBytes(rawSubscribe(mqtt.V311, 2, 0, "a", 1))
		s.suback(0x90, 2, 1)
		<-second.Ready()
		s.ExpectNothing(time.Second)
	})
}

// Unsubscribe on the Conn takes filters of a former process, several in a packet.
func TestConnUnsubscribe(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		mine := s.subscribed("mine", 1)
		type answer struct {
			results []mqtt.SubscribeResult
			err     error
		}
		done := make(chan answer, 1)
		go func() {
			r, err := s.conn.Unsubscribe(t.Context(), "foreign/#", "mine", "refused")
			done <- answer{r, err}
		}()
		p := s.ExpectPacket()
		if !slices.Equal(p, rawUnsubscribe(v, binary.BigEndian.Uint16(p[2:]), "foreign/#", "mine", "refused")) {
			t.Fatalf("got % X", p)
		}
		s.suback(0xB0, binary.BigEndian.Uint16(p[2:]), 0x11, 0, 0x87)
		a := <-done
		if len(a.results) != 3 {
			t.Fatalf("%+v", a)
		}
		if v == mqtt.V5 && (!errors.Is(a.err, mqtt.ErrNotAuthorized) || a.results[0].Code != 0x11 || a.results[0].Err != nil || a.results[2].Err == nil) {
			t.Errorf("%+v", a)
		}
		if v != mqtt.V5 && a.err != nil {
			t.Errorf("%+v", a)
		}
		if !errors.Is(mine.Err(), mqtt.ErrUnsubscribed) {
			t.Errorf("Err is %v", mine.Err())
		}
		// A Subscription of several filters lives on with the rest.
		two, err := s.conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "x"}, {Pattern: "y"}}, mqtt.WithoutWaiting())
		if err != nil {
			t.Fatal(err)
		}
		s.ExpectPacket()
		go s.conn.Unsubscribe(t.Context(), "x")
		s.ExpectPacket()
		s.message(0x30, 0, "y", "1")
		expect(t, two.C(), "1")
	})
}

// A late UNSUBACK answers the UNSUBSCRIBE that it is for, and not the one that
// followed when the filter had been subscribed again: that one goes out on the next link.
func TestLateUnsubackAnswersItsOwnUnsubscribe(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		if v == mqtt.V31 {
			return // tells nothing of a session
		}
		s := scriptWith(t, v, connack(v, false), mqtt.WithSession(time.Hour))
		s.subscribed("x", 1)
		go s.conn.Unsubscribe(t.Context(), "x")
		first := binary.BigEndian.Uint16(s.ExpectPacket()[2:])
		if _, err := s.conn.Subscribe(t.Context(), "x", mqtt.WithoutWaiting()); err != nil {
			t.Fatal(err)
		}
		s.ExpectPacket()
		go s.conn.Unsubscribe(t.Context(), "x")
		s.ExpectPacket() // and is lost with the link
		s.suback(0xB0, first, 0)
		synctest.Wait()
		s.recut(connack(v, true))
		p := s.ExpectPacket()
		if !slices.Equal(p, rawUnsubscribe(v, binary.BigEndian.Uint16(p[2:]), "x")) {
			t.Errorf("got % X", p)
		}
	})
}

// Subscribe does not wait for the answer to a filter that is unsubscribed
// by hand meanwhile, with or without a link, and the rest of it lives on.
func TestUnsubscribeWhileSubscribing(t *testing.T) {
	for _, tt := range []struct {
		name    string
		byHand  []string
		cut     bool
		answer  byte // to what is left
		partial bool
		want    error
	}{
		{name: "one of two", byHand: []string{"x"}},
		{name: "one of two, and the link lost", byHand: []string{"x"}, cut: true},
		{name: "both", byHand: []string{"y", "x"}, want: mqtt.ErrUnsubscribed},
		{name: "one, the other refused", byHand: []string{"x"}, answer: 0x87, partial: true, want: mqtt.ErrNotAuthorized},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := script(t, mqtt.V5)
				var opts []mqtt.SubscribeOption
				if tt.partial {
					opts = append(opts, mqtt.WithPartialSuccess())
				}
				type outcome struct {
					sub *mqtt.Subscription
					err error
				}
				done := make(chan outcome, 1)
				go func() {
					sub, err := s.conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "x"}, {Pattern: "y"}}, opts...)
					done <- outcome{sub, err}
				}()
				ids := []byte{s.ExpectPacket()[3]}
				go s.conn.Unsubscribe(t.Context(), tt.byHand...)
				ids = append(ids, s.ExpectPacket()[3])
				if tt.cut {
					s.recut(connack(mqtt.V5, false))
					p := s.ExpectPacket()
					s.suback(0x90, uint16(p[3]), tt.answer)
				} else {
					s.suback(0x90, uint16(ids[0]), 0, tt.answer)
					s.suback(0xB0, uint16(ids[1]), make([]byte, len(tt.byHand))...)
				}
				got := take(t, done)
				if !errors.Is(got.err, tt.want) {
					t.Fatalf("Subscribe: %v, want %v", got.err, tt.want)
				}
				if tt.want != nil {
					return
				}
				if r := got.sub.Results(); !errors.Is(r[0].Err, mqtt.ErrUnsubscribed) || r[1].Err != nil {
					t.Errorf("results %v", r)
				}
				s.message(0x30, 0, "y", "1")
				expect(t, got.sub.C(), "1")
			})
		})
	}
}
