package mqtt_test

import (
	"bytes"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/backoff"
	"github.com/millrace/mqtt/mqtttest/server"
)

// forever is how Go programs say that something has no end.
const forever = time.Duration(math.MaxInt64)

// A session for ever is Session Expiry 0xFFFFFFFF (section 3.1.2.11.2), which is not
// less than was asked for, and is told as for ever.
func TestSessionForEver(t *testing.T) {
	for name, tc := range map[string]struct {
		ask  time.Duration
		wire string
		ack  string
		told string // what the session expiry was downgraded to
		got  time.Duration
	}{
		"for ever":             {forever, "11FFFFFFFF", server.Connack, "", forever},
		"for ever, answered":   {forever, "11FFFFFFFF", "20 08 00 00 05 11 FFFFFFFF", "", forever},
		"for ever, refused":    {forever, "11FFFFFFFF", "20 08 00 00 05 11 0000003C", "1m0s", time.Minute},
		"150 years":            {150 * years, "11FFFFFFFF", "20 08 00 00 05 11 FFFFFFFF", "", forever},
		"the longest but that": {4294967294 * time.Second, "11FFFFFFFE", server.Connack, "", 4294967294 * time.Second},
		"an hour":              {time.Hour, "1100000E10", server.Connack, "", time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := dial(t, mqtt.WithVersions(mqtt.V5), mqtt.WithSession(tc.ask))
				_, connect := x.accept(tc.ack)
				if !bytes.Contains(connect, server.Hex(tc.wire)) {
					t.Errorf("CONNECT % X has no %s", connect, tc.wire)
				}
				if got := await[mqtt.Connected](t, x.conn.Events()).SessionExpiry; got != tc.got {
					t.Errorf("session expiry %v, want %v", got, tc.got)
				}
				evs := told[mqtt.Downgraded](x.conn)
				if tc.told == "" && len(evs) > 0 || tc.told != "" && (len(evs) != 1 || evs[0].To != tc.told || evs[0].From != "no end") {
					t.Errorf("told %+v", evs)
				}
			})
		})
	}
}

// A message that is of use for ever has no expiry interval, in every version; the
// longest that there is has one.
func TestMessageForEver(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v, mqtt.WithMaxInflight(1))
		first := s.conn.Publish(t.Context(), of("a", 1, forever))
		s.expectPublish(0x32, 1, "t", "a")
		s.conn.Publish(t.Context(), of("b", 1, 150*years))
		time.Sleep(time.Minute) // it waits
		s.sendAck(0x40, 1)
		succeeded(t, first)
		s.expectPublish(0x32, 2, "t", "b")
		s.sendAck(0x40, 2)
		if evs := told[mqtt.Downgraded](s.conn); len(evs) > 0 {
			t.Errorf("told %+v", evs)
		}
		s.conn.Publish(t.Context(), of("c", 1, 4294967295*time.Second))
		if v == mqtt.V5 {
			s.Expect("32 0C 0001 74 0003 05 02 FFFFFFFF 63")
		} else {
			s.expectPublish(0x32, 3, "t", "c")
		}
	})
}

// A will for ever, delayed for ever: no expiry, and the longest delay there is.
func TestWillForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mqtt.Will{Message: of("w", 0, forever), Delay: forever}
		_, connect := dial(t, mqtt.WithVersions(mqtt.V5), mqtt.WithWill(w)).accept(server.Connack)
		if want := server.Hex("05 18 FFFFFFFF 0001 74 0001 77"); !bytes.HasSuffix(connect, want) {
			t.Errorf("CONNECT % X does not end with % X", connect, want)
		}
	})
}

// Times without an end neither overflow nor end anything at once.
func TestTimesWithoutEnd(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		conn, srv, network := serve(t, v, server.Config{},
			mqtt.WithPingTimeout(forever), mqtt.WithConnectTimeout(forever), mqtt.WithSubscribeTimeout(forever),
			mqtt.WithStableAfter(forever), mqtt.WithAckTimeout(forever), mqtt.WithAckOverdue(forever), mqtt.WithStuckAfter(forever),
			mqtt.WithBacklogGrace(forever), mqtt.WithCloseTimeout(forever), mqtt.WithSession(forever),
			mqtt.WithBackoff(backoff.Exponential{Base: forever, Max: forever, NoJitter: true}))
		sub, err := conn.Subscribe(t.Context(), "t", mqtt.WithManualAck())
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			succeeded(t, conn.Publish(t.Context(), of("x", 1, forever)))
			m := <-sub.C()
			time.Sleep(10 * time.Minute)
			m.Ack()
		}
		if n := network.Dials(); n != 1 {
			t.Errorf("%d dials", n)
		}
		srv.Cut("c")
		time.Sleep(24 * time.Hour)
		if n := network.Dials(); n != 1 || conn.State() != mqtt.StateWaiting {
			t.Errorf("%d dials, %v", n, conn.State())
		}
		conn.Reconnect()
		succeeded(t, conn.Publish(t.Context(), of("x", 1, forever)))
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
}
