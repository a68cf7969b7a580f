package mqtt_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// plain leaves out of CONNECT what the defaults announce.
var plain = []mqtt.ConnectOption{mqtt.WithReceiveMaximum(65535), mqtt.WithMaxPacketSize(268_435_460)}

func str(s string) *string { return &s }

func fixed(c mqtt.Credentials) mqtt.ConnectOption {
	return mqtt.WithCredentialsFunc(func(context.Context) (mqtt.Credentials, error) { return c, nil })
}

// CONNECT carries exactly what was asked for [MQTT-3.1.2-1] [MQTT-3.1.2-9]
// [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18]
// [MQTT-3.1.2-19] [MQTT-3.1.3-1] [MQTT-2.2.2-1].
func TestConnectBytes(t *testing.T) {
	will := mqtt.Message{Topic: "w", Payload: []byte("hi"), QoS: 1, Retain: true}
	for _, tt := range []struct {
		name string
		v    mqtt.Version
		opts []mqtt.ConnectOption
		want string
	}{
		{"5.0", mqtt.V5, plain, "10 0E 0004 4D515454 05 02 0000 00 0001 63"},
		{"5.0 defaults", mqtt.V5, nil, "10 16 0004 4D515454 05 02 0000 08 210400 2704000000 0001 63"},
		{"3.1.1", mqtt.V311, nil, "10 0D 0004 4D515454 04 02 0000 0001 63"},
		{"3.1", mqtt.V31, nil, "10 0F 0006 4D5149736470 03 02 0000 0001 63"},
		{"keep alive", mqtt.V311, []mqtt.ConnectOption{mqtt.WithKeepAlive(0)}, "10 0D 0004 4D515454 04 02 0000 0001 63"},
		{"keep alive of seconds", mqtt.V311, []mqtt.ConnectOption{mqtt.WithKeepAlive(65535 * time.Second)}, "10 0D 0004 4D515454 04 02 FFFF 0001 63"},
		{"keep alive rounded up", mqtt.V311, []mqtt.ConnectOption{mqtt.WithKeepAlive(1500 * time.Millisecond)}, "10 0D 0004 4D515454 04 02 0002 0001 63"},
		{"keep alive below 1 s", mqtt.V311, []mqtt.ConnectOption{mqtt.WithKeepAlive(time.Millisecond)}, "10 0D 0004 4D515454 04 02 0001 0001 63"},
		{"user", mqtt.V311, []mqtt.ConnectOption{mqtt.WithUsername("u")}, "10 10 0004 4D515454 04 82 0000 0001 63 0001 75"},
		{"empty user", mqtt.V311, []mqtt.ConnectOption{mqtt.WithUsername("")}, "10 0F 0004 4D515454 04 82 0000 0001 63 0000"},
		{"user and password", mqtt.V31, []mqtt.ConnectOption{mqtt.WithCredentials("u", "pw")}, "10 16 0006 4D5149736470 03 C2 0000 0001 63 0001 75 0002 7077"},
		{"empty user and password", mqtt.V5, append(plain, mqtt.WithCredentials("", "")), "10 12 0004 4D515454 05 C2 0000 00 0001 63 0000 0000"},
		{"password alone", mqtt.V5, append(plain, fixed(mqtt.Credentials{Password: []byte("pw")})), "10 12 0004 4D515454 05 42 0000 00 0001 63 0002 7077"},
		{"empty password alone", mqtt.V5, append(plain, fixed(mqtt.Credentials{Password: []byte{}})), "10 10 0004 4D515454 05 42 0000 00 0001 63 0000"},
		{"no credentials from the function", mqtt.V5, append(plain, fixed(mqtt.Credentials{})), "10 0E 0004 4D515454 05 02 0000 00 0001 63"},
		{"will", mqtt.V311, []mqtt.ConnectOption{mqtt.WithWill(mqtt.Will{Message: will})}, "10 14 0004 4D515454 04 2E 0000 0001 63 0001 77 0002 6869"},
		{"will on 5.0", mqtt.V5, append(plain, mqtt.WithWill(mqtt.Will{Message: will, Delay: 5 * time.Second})),
			"10 1B 0004 4D515454 05 2E 0000 00 0001 63 05 1800000005 0001 77 0002 6869"},
		{"empty will", mqtt.V5, append(plain, mqtt.WithWill(mqtt.Will{Message: mqtt.Message{Topic: "w", QoS: 2}})),
			"10 14 0004 4D515454 05 16 0000 00 0001 63 00 0001 77 0000"},
		{"will, user and password", mqtt.V311, []mqtt.ConnectOption{mqtt.WithWill(mqtt.Will{Message: mqtt.Message{Topic: "w"}}), mqtt.WithCredentials("u", "p")},
			"10 18 0004 4D515454 04 C6 0000 0001 63 0001 77 0000 0001 75 0001 70"},
		{"durable 5.0", mqtt.V5, append(plain, mqtt.WithSession(time.Hour)), "10 13 0004 4D515454 05 00 0000 05 1100000E10 0001 63"},
		{"fresh durable 5.0", mqtt.V5, append(plain, mqtt.WithSession(time.Hour), mqtt.WithFreshStart()), "10 13 0004 4D515454 05 02 0000 05 1100000E10 0001 63"},
		{"durable 3.1.1", mqtt.V311, []mqtt.ConnectOption{mqtt.WithSession(time.Hour)}, "10 0D 0004 4D515454 04 00 0000 0001 63"},
		{"durable 3.1", mqtt.V31, []mqtt.ConnectOption{mqtt.WithSession(time.Hour)}, "10 0F 0006 4D5149736470 03 00 0000 0001 63"},
		{"user properties", mqtt.V5, append(plain, mqtt.WithConnectUserProperties(mqtt.UserProperty{Key: "k", Value: "v"}, mqtt.UserProperty{Key: "k", Value: "v"})),
			"10 1C 0004 4D515454 05 02 0000 0E 2600016B000176 2600016B000176 0001 63"},
		{"response information", mqtt.V5, append(plain, mqtt.WithRequestResponseInformation()), "10 10 0004 4D515454 05 02 0000 02 1901 0001 63"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dial(t, append([]mqtt.ConnectOption{mqtt.WithVersions(tt.v)}, tt.opts...)...)
				_, got := d.accept(connack(tt.v, false))
				if want := server.Hex(tt.want); !bytes.Equal(got, want) {
					t.Errorf("CONNECT\n got % X\nwant % X", got, want)
				}
			})
		})
	}
}

// Clean Start is 1 on the first connect alone; Clean Session never changes.
func TestCleanStartOverReconnects(t *testing.T) {
	for _, tt := range []struct {
		name        string
		v           mqtt.Version
		opts        []mqtt.ConnectOption
		first, then byte
	}{
		{"clean 5.0", mqtt.V5, nil, 2, 0},
		{"durable 5.0", mqtt.V5, []mqtt.ConnectOption{mqtt.WithSession(time.Hour)}, 0, 0},
		{"fresh 5.0", mqtt.V5, []mqtt.ConnectOption{mqtt.WithSession(time.Hour), mqtt.WithFreshStart()}, 2, 0},
		{"clean 3.1.1", mqtt.V311, nil, 2, 2},
		{"durable 3.1.1", mqtt.V311, []mqtt.ConnectOption{mqtt.WithSession(time.Hour)}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dial(t, append([]mqtt.ConnectOption{mqtt.WithVersions(tt.v)}, tt.opts...)...)
				// An attempt that came to nothing is no first connect.
				w, lost := d.accept("")
				w.Cut()
				w, first := d.accept(connack(tt.v, false))
				synctest.Wait()
				w.Cut()
				_, then := d.accept(connack(tt.v, false))
				if lost[9] != tt.first || first[9] != tt.first || then[9] != tt.then {
					t.Errorf("flags %02X, %02X and %02X, want %02X, %02X and %02X", lost[9], first[9], then[9], tt.first, tt.first, tt.then)
				}
			})
		})
	}
}

// A fresh durable session on 3.x takes one throw-away connection with
// Clean Session 1, without the will.
func TestFreshSessionOn3(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V311), mqtt.WithSession(time.Hour), mqtt.WithFreshStart(),
			mqtt.WithWill(mqtt.Will{Message: mqtt.Message{Topic: "w"}}))
		w, connect := d.accept(server.Connack3)
		if connect[9] != 0x02 {
			t.Errorf("the throw-away CONNECT has flags %02X", connect[9])
		}
		w.Expect("E0 00")
		w.ExpectEOF()
		w, connect = d.accept(server.Connack3)
		if connect[9] != 0x04 {
			t.Errorf("the CONNECT that counts has flags %02X", connect[9])
		}
		synctest.Wait()
		w.Cut()
		if _, connect = d.accept(server.Connack3Present); connect[9] != 0x04 {
			t.Errorf("the next CONNECT has flags %02X", connect[9])
		}
	})
}

// [MQTT-3.1.3-7]: an assigned client identifier is exposed and used again.
func TestAssignedClientIDIsReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, append(plain, mqtt.WithClientID(""), mqtt.WithServerAssignedClientID(), mqtt.WithVersions(mqtt.V5), mqtt.WithSession(time.Hour))...)
		w, connect := d.accept("20 09 00 00 06 12 0003 616263")
		if want := server.Hex("10 12 0004 4D515454 05 00 0000 05 1100000E10 0000"); !bytes.Equal(connect, want) {
			t.Errorf("CONNECT % X, want % X", connect, want)
		}
		synctest.Wait()
		if ev := await[mqtt.Connected](t, d.conn.Events()); ev.ClientID != "abc" || d.conn.ClientID() != "abc" {
			t.Errorf("client identifier %q in the event, %q in the Conn, want abc", ev.ClientID, d.conn.ClientID())
		}
		w.Cut()
		if _, connect = d.accept(server.ConnackPresent); !bytes.HasSuffix(connect, server.Hex("0003 616263")) {
			t.Errorf("the second CONNECT % X does not carry the assigned identifier", connect)
		}
	})
}

// Without an option the client identifier is made here, fit for every version, and
// stays for the life of the Conn.
func TestGeneratedClientID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithClientID(""), mqtt.WithVersions(mqtt.V31))
		w, first := d.accept(server.Connack3)
		id := string(first[16:])
		if len(id) == 0 || len(id) > 23 || d.conn.ClientID() != id {
			t.Errorf("generated client identifier %q, the Conn says %q", id, d.conn.ClientID())
		}
		for _, r := range id {
			if !('0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z') {
				t.Errorf("generated client identifier %q", id)
			}
		}
		synctest.Wait()
		w.Cut()
		if _, second := d.accept(server.Connack3); string(second[16:]) != id {
			t.Errorf("%q on reconnect, was %q", second[16:], id)
		}
		if other := dial(t, mqtt.WithClientID("")); other.conn.ClientID() == id {
			t.Error("two Conns have the same generated client identifier")
		}
	})
}

// What cannot be sent is refused before any I/O.
func TestConnectRefusesBeforeIO(t *testing.T) {
	bad := string([]byte{0xED, 0xA0, 0x80})
	will := func(m mqtt.Message) mqtt.ConnectOption { return mqtt.WithWill(mqtt.Will{Message: m}) }
	v311 := mqtt.WithVersions(mqtt.V311)
	for name, opts := range map[string][]mqtt.ConnectOption{
		"client id bad UTF-8":            {mqtt.WithClientID(bad)},                 // [MQTT-3.1.3-4]
		"client id with NUL":             {mqtt.WithClientID("a\x00")},             // [MQTT-1.5.4-2]
		"user name bad UTF-8":            {mqtt.WithUsername(bad)},                 // [MQTT-3.1.3-12]
		"will topic bad UTF-8":           {will(mqtt.Message{Topic: bad})},         // [MQTT-3.1.3-11]
		"will topic with wildcard":       {will(mqtt.Message{Topic: "a/#"})},       // [MQTT-3.3.2-2]
		"will topic empty":               {will(mqtt.Message{})},                   // [MQTT-4.7.3-1]
		"will QoS 3":                     {will(mqtt.Message{Topic: "w", QoS: 3})}, // [MQTT-3.1.2-12]
		"will payload too long":          {will(mqtt.Message{Topic: "w", Payload: make([]byte, 65536)})},
		"negative will delay":            {mqtt.WithWill(mqtt.Will{Message: mqtt.Message{Topic: "w"}, Delay: -1})},
		"will properties on 3.1.1":       {v311, will(mqtt.Message{Topic: "w", Properties: &mqtt.Properties{UTF8: true}})},
		"password too long":              {mqtt.WithCredentials("u", string(make([]byte, 65536)))},
		"password without user on 3.1.1": {v311, fixed(mqtt.Credentials{Password: []byte("p")})},        // [MQTT-3.1.2-22]
		"user property bad UTF-8":        {mqtt.WithConnectUserProperties(mqtt.UserProperty{Key: bad})}, // [MQTT-1.5.7-1]
		"empty id on 3.1":                {mqtt.WithClientID(""), mqtt.WithServerAssignedClientID(), mqtt.WithVersions(mqtt.V31)},
		"empty id, durable, 3.1.1":       {mqtt.WithClientID(""), mqtt.WithServerAssignedClientID(), mqtt.WithSession(time.Hour), v311}, // [MQTT-3.1.3-7]
		"generated id, durable":          {mqtt.WithClientID(""), mqtt.WithSession(time.Hour)},
		"durable for nothing":            {mqtt.WithSession(0)},
		"client id given and assigned":   {mqtt.WithServerAssignedClientID()},
		"keep alive too long":            {mqtt.WithKeepAlive(65536 * time.Second)},
		"negative timeout":               {mqtt.WithConnectTimeout(-1)},
		"no versions":                    {mqtt.WithVersions()},
		"unknown version":                {mqtt.WithVersions(6)},
		"window 0":                       {mqtt.WithMaxInflight(0)},
		"receive maximum 0":              {mqtt.WithReceiveMaximum(0)},
		"packet size":                    {mqtt.WithMaxPacketSize(1)},
		"bad second server":              {mqtt.WithServers("ftp://x")},
		"bad declared filter":            {mqtt.WithSubscription("a/#/b")},
		"filter declared twice":          {mqtt.WithSubscription("$share/g/a"), mqtt.WithSubscription("$share/g/a")},
		"unknown queue policy":           {mqtt.WithQueue(0, 0, 99)},
	} {
		t.Run(name, func(t *testing.T) {
			dials := 0
			opts := append([]mqtt.ConnectOption{mqtt.WithClientID("c"), mqtt.WithDialer(func(context.Context, string, string) (net.Conn, error) {
				dials++
				return nil, errors.New("dialed")
			})}, opts...)
			conn, err := mqtt.Connect(t.Context(), "mqtt://server", opts...)
			if err == nil {
				conn.Abort()
				t.Fatal("Connect succeeded")
			}
			if !errors.Is(err, mqtt.ErrInvalid) && !errors.Is(err, mqtt.ErrNotSupported) {
				t.Errorf("got %v, want an InvalidError or a VersionError", err)
			}
			if dials > 0 {
				t.Errorf("%d dials before the refusal: %v", dials, err)
			}
		})
	}
	for _, url := range []string{"", "ftp://x", "server:1883", "mqtt://"} {
		if _, err := mqtt.Connect(t.Context(), url); !errors.Is(err, mqtt.ErrInvalid) {
			t.Errorf("Connect(%q): %v, want an InvalidError", url, err)
		}
	}
}

// What the options announce and 3.x cannot carry is told, not silently dropped.
func TestDowngradedTellsOfConnectProperties(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V311), mqtt.WithConnectUserProperties(mqtt.UserProperty{Key: "k", Value: "v"}))
		d.up(server.Connack3)
		if ev := await[mqtt.Downgraded](t, d.conn.Events()); ev.What != "CONNECT properties" {
			t.Errorf("Downgraded %+v", ev)
		}
	})
}

// The whole of a CONNACK is in the Connected event, and its limits hold.
func TestConnectedHasTheWholeConnack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithVersions(mqtt.V5), mqtt.WithSession(time.Hour))
		d.up("20 22 00 00 1F 11 0000003C 21 0005 24 01 25 00 27 00000400 13 0014 28 00 2A 00 29 00 1F 0002 6869")
		ev := await[mqtt.Connected](t, d.conn.Events())
		if ev.SessionExpiry != time.Minute || ev.ReceiveMaximum != 5 || ev.MaximumQoS != 1 || ev.RetainAvailable ||
			ev.MaximumPacketSize != 1024 || ev.KeepAlive != 20*time.Second || ev.WildcardAvailable || ev.SharedAvailable {
			t.Errorf("Connected %+v", ev)
		}
		if p := ev.Connack.Props; p == nil || p.ReasonString != "hi" || !p.Has(codec.PropReasonString) {
			t.Errorf("CONNACK properties %+v", p)
		}
		// The expiry in CONNACK wins, and a shorter one is told.
		if ev := await[mqtt.Downgraded](t, d.conn.Events()); ev.What != "session expiry" || ev.From != "1h0m0s" || ev.To != "1m0s" {
			t.Errorf("Downgraded %+v", ev)
		}
	})
}
