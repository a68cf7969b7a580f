package mqtt_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// badStrings are refused wherever a UTF-8 string goes to the wire
// [MQTT-1.5.4-1] [MQTT-1.5.4-2].
var badStrings = map[string]string{
	"ill-formed": "a\xC3\x28",
	"surrogate":  "a\xED\xA0\x80",
	"NUL":        "a\x00b",
	"too long":   strings.Repeat("x", 65536),
}

// invalidMessages are messages that Publish must refuse.
func invalidMessages() map[string]mqtt.Message {
	all := map[string]mqtt.Message{
		"empty topic":                    {},
		"topic with + [MQTT-3.3.2-2]":    {Topic: "a/+"},
		"topic with # [MQTT-4.7.1-1]":    {Topic: "#"},
		"topic with a wildcard inside":   {Topic: "a+b"},
		"QoS 3 [MQTT-3.3.1-4]":           {Topic: "t", QoS: 3},
		"response topic with a wildcard": {Topic: "t", Properties: &mqtt.Properties{ResponseTopic: "a/#"}},
		"long correlation data":          {Topic: "t", Properties: &mqtt.Properties{CorrelationData: make([]byte, 65536)}},
		"negative expiry":                {Topic: "t", Properties: &mqtt.Properties{Expiry: -1}},
	}
	for what, bad := range badStrings {
		all[what+" topic"] = mqtt.Message{Topic: bad}
		all[what+" content type"] = mqtt.Message{Topic: "t", Properties: &mqtt.Properties{ContentType: bad}}
		all[what+" response topic"] = mqtt.Message{Topic: "t", Properties: &mqtt.Properties{ResponseTopic: bad}}
		all[what+" property name"] = mqtt.Message{Topic: "t", Properties: &mqtt.Properties{User: []mqtt.UserProperty{{Key: bad}}}}
		all[what+" property value"] = mqtt.Message{Topic: "t", Properties: &mqtt.Properties{User: []mqtt.UserProperty{{Key: "k", Value: bad}}}}
	}
	return all
}

// An invalid message is refused before any I/O, and spends no identifier.
func TestInvalidMessages(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		for what, m := range invalidMessages() {
			for qos := range mqtt.QoS(3) {
				if m.QoS == 0 {
					m.QoS = qos
				}
				for _, f := range []*mqtt.Future{s.conn.Publish(t.Context(), m), s.conn.TryPublish(m)} {
					err := f.Err()
					if e, ok := errors.AsType[*mqtt.InvalidError](err); !ok || !errors.Is(err, mqtt.ErrInvalid) || e.What == "" || e.Problem == "" {
						t.Errorf("%s: %v", what, err)
					}
					if len(err.Error()) > 66000 {
						t.Errorf("%s: the error repeats %d bytes", what, len(err.Error()))
					}
				}
			}
		}
		s.ExpectNothing(time.Minute)
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		s.expectPublish(0x32, 1, "t", "")
	})
}

// What is unusual and allowed is sent: "$" topics, control characters, a
// byte order mark [MQTT-1.5.4-3], the longest topic.
func TestUnusualTopics(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		for _, topic := range []string{"$SYS/x", "a\x01b", "\uFEFFa", "/", "//", " ", "a/\U0010FFFD", strings.Repeat("t", 65535)} {
			succeeded(t, s.conn.Publish(t.Context(), mqtt.Message{Topic: topic}))
			s.expectPublish(0x30, 0, topic, "")
		}
	})
}

// [MQTT-3.2.2-11] [MQTT-3.2.2-14]: above the server's Maximum QoS, or
// retained where that is not available: a typed error, and nothing is sent.
func TestNotAvailableAtTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := scriptWith(t, mqtt.V5, "20 07 00 00 04 24 01 25 00")
		for _, m := range []mqtt.Message{{Topic: "t", QoS: 2}, {Topic: "t", Retain: true}} {
			err := s.conn.Publish(t.Context(), m).Err()
			if e, ok := errors.AsType[*mqtt.VersionError](err); !ok || !errors.Is(err, mqtt.ErrNotSupported) || e.Version != mqtt.V5 {
				t.Errorf("%v", err)
			}
		}
		s.ExpectNothing(time.Second)
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		s.expectPublish(0x32, 1, "t", "")
	})
}

// A message with properties cannot go over a 3.x link: a typed error, at once or
// when it leaves the queue, and the next is sent.
func TestPropertiesOn3(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		if v == mqtt.V5 {
			t.Skip("5.0 carries them")
		}
		s := script(t, v)
		m := mqtt.Message{Topic: "t", QoS: 1, Properties: &mqtt.Properties{ContentType: "c"}}
		check := func(f *mqtt.Future) {
			t.Helper()
			if e, ok := errors.AsType[*mqtt.VersionError](outcome(t, f)); !ok || e.Version != v {
				t.Errorf("%v", f.Err())
			}
		}
		check(s.conn.Publish(t.Context(), m))
		s.net.RefuseDials(1, nil)
		s.Cut()
		synctest.Wait()
		f := s.conn.Publish(t.Context(), m)
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "u", QoS: 1})
		pending(t, f)
		s.next(connack(v, false))
		s.expectPublish(0x32, 1, "u", "")
		check(f)
	})
}

// The properties of a message arrive as they were given, in their order.
func TestPropertiesOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5)
		p := &mqtt.Properties{
			Expiry: 90*time.Second + 1, ContentType: "c", ResponseTopic: "r", CorrelationData: []byte{1, 2}, UTF8: true,
			User: []mqtt.UserProperty{{Key: "k", Value: "2"}, {Key: "k", Value: "1"}, {Key: "", Value: ""}},
		}
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte("x"), Properties: p})
		p.User[0].Value, p.CorrelationData[0] = "9", 9 // theirs again
		s.Expect("30 2C 0001 74 27 01 01 02 0000005B 03 0001 63 08 0001 72 09 0002 0102 " +
			"26 0001 6B 0001 32 26 0001 6B 0001 31 26 0000 0000 78")
	})
}

// [MQTT-3.8.3-1] [MQTT-3.8.3-2] [MQTT-3.8.3-4] [MQTT-4.7.1-1] [MQTT-4.7.1-2]
// [MQTT-4.8.2-1] [MQTT-4.8.2-2]: invalid filters and subscribe options.
func TestInvalidSubscriptions(t *testing.T) {
	inEachVersion(t, func(t *testing.T, v mqtt.Version) {
		s := script(t, v)
		invalid := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, mqtt.ErrInvalid) {
				t.Errorf("%s: %v", what, err)
			}
		}
		filters := []string{"", "a#", "a/#/b", "+a", "a/b+", "$share//t", "$share/a", "$share/a+/t", "$share/a/", "$share/#/t"}
		for _, bad := range badStrings {
			filters = append(filters, bad)
		}
		for _, f := range filters {
			_, err := s.conn.Subscribe(t.Context(), f)
			invalid("Subscribe "+f, err)
			_, err = s.conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "ok"}, {Pattern: f}})
			invalid("SubscribeMany "+f, err)
			_, err = s.conn.Unsubscribe(t.Context(), "ok", f)
			invalid("Unsubscribe "+f, err)
		}
		_, err := s.conn.SubscribeMany(t.Context(), nil)
		invalid("no filter", err)
		_, err = s.conn.Unsubscribe(t.Context())
		invalid("no filter", err)
		_, err = s.conn.Subscribe(t.Context(), "f", mqtt.QoS(3))
		invalid("QoS 3", err)
		_, err = s.conn.Subscribe(t.Context(), "f", mqtt.WithRetainHandling(3))
		invalid("retain handling 3", err)
		_, err = s.conn.Subscribe(t.Context(), "$share/g/t", mqtt.WithNoLocal())
		invalid("shared with No Local", err)
		_, err = s.conn.Subscribe(t.Context(), "f", nil)
		invalid("a nil option", err)
		_, err = s.conn.SubscribeMany(t.Context(), []mqtt.Filter{{Pattern: "f"}}, mqtt.QoS(1), nil)
		invalid("a nil option among others", err)
		_, err = s.conn.Subscribe(t.Context(), "f", (*mqtt.QoS)(nil))
		invalid("a nil pointer to a QoS", err)
		_, err = mqtt.SubscribeAs(t.Context(), s.conn, "f", mqtt.UTF8(), nil)
		invalid("a nil option of a typed subscription", err)
		invalid("a nil option of CatchAll", s.conn.CatchAll(nil).Err())
		invalid("a nil option of Disconnect", s.conn.Disconnect(t.Context(), nil))
		s.ExpectNothing(time.Minute)
		s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
		s.expectPublish(0x32, 1, "t", "")
	})
}

// Options that cannot be meant, alone or together, before any dial.
func TestInvalidOptions(t *testing.T) {
	will := func(m mqtt.Message) mqtt.ConnectOption { return mqtt.WithWill(mqtt.Will{Message: m}) }
	cases := map[string]struct {
		url  string
		opts []mqtt.ConnectOption
	}{
		"no URL":                       {url: ""},
		"unknown scheme":               {url: "http://server"},
		"no host":                      {url: "mqtt://"},
		"bad port":                     {url: "mqtt://server:99999"},
		"bad further URL":              {opts: []mqtt.ConnectOption{mqtt.WithServers("ftp://x")}},
		"nil option":                   {opts: []mqtt.ConnectOption{nil}},
		"nil option, declared":         {opts: []mqtt.ConnectOption{mqtt.WithSubscription("f", nil)}},
		"nil pointer to a QoS":         {opts: []mqtt.ConnectOption{mqtt.WithSubscription("f", (*mqtt.QoS)(nil))}},
		"nil option of the catch-all":  {opts: []mqtt.ConnectOption{mqtt.WithCatchAll(nil)}},
		"no version":                   {opts: []mqtt.ConnectOption{mqtt.WithVersions()}},
		"unknown version":              {opts: []mqtt.ConnectOption{mqtt.WithVersions(7)}},
		"bad client id":                {opts: []mqtt.ConnectOption{mqtt.WithClientID("a\x00")}},
		"id given and assigned":        {opts: []mqtt.ConnectOption{mqtt.WithClientID("a"), mqtt.WithServerAssignedClientID()}},
		"durable without an id":        {opts: []mqtt.ConnectOption{mqtt.WithSession(time.Hour)}},
		"durable for no time":          {opts: []mqtt.ConnectOption{mqtt.WithClientID("a"), mqtt.WithSession(0)}},
		"long keep alive":              {opts: []mqtt.ConnectOption{mqtt.WithKeepAlive(70000 * time.Second)}},
		"negative timeout":             {opts: []mqtt.ConnectOption{mqtt.WithConnectTimeout(-1)}},
		"window of 0":                  {opts: []mqtt.ConnectOption{mqtt.WithMaxInflight(0)}},
		"window of 65,536":             {opts: []mqtt.ConnectOption{mqtt.WithMaxInflight(65536)}},
		"receive maximum of 0":         {opts: []mqtt.ConnectOption{mqtt.WithReceiveMaximum(0)}},
		"packet size of 1":             {opts: []mqtt.ConnectOption{mqtt.WithMaxPacketSize(1)}},
		"unknown queue policy":         {opts: []mqtt.ConnectOption{mqtt.WithQueue(0, 0, 9)}},
		"will without a topic":         {opts: []mqtt.ConnectOption{will(mqtt.Message{})}},
		"will QoS 3 [MQTT-3.1.2-12]":   {opts: []mqtt.ConnectOption{will(mqtt.Message{Topic: "t", QoS: 3})}},
		"will topic with a wildcard":   {opts: []mqtt.ConnectOption{will(mqtt.Message{Topic: "a/#"})}},
		"will payload above 65,535":    {opts: []mqtt.ConnectOption{will(mqtt.Message{Topic: "t", Payload: make([]byte, 65536)})}},
		"bad user name":                {opts: []mqtt.ConnectOption{mqtt.WithCredentials("a\xFF", "")}},
		"long password":                {opts: []mqtt.ConnectOption{mqtt.WithCredentials("a", strings.Repeat("x", 65536))}},
		"bad user property":            {opts: []mqtt.ConnectOption{mqtt.WithConnectUserProperties(mqtt.UserProperty{Key: "\x00"})}},
		"bad declared filter":          {opts: []mqtt.ConnectOption{mqtt.WithSubscription("a#")}},
		"declared with No Local":       {opts: []mqtt.ConnectOption{mqtt.WithSubscription("$share/g/t", mqtt.WithNoLocal())}},
		"declared twice, shared group": {opts: []mqtt.ConnectOption{mqtt.WithSubscription("$share/g/t"), mqtt.WithSubscription("$share/g/t")}},
	}
	for what, c := range cases {
		t.Run(what, func(t *testing.T) {
			var network server.Network
			if c.opts != nil {
				c.url = "mqtt://server"
			}
			conn, err := mqtt.Connect(t.Context(), c.url, append(c.opts, mqtt.WithDialer(network.Dial))...)
			if err == nil {
				conn.Close()
			}
			if !errors.Is(err, mqtt.ErrInvalid) {
				t.Errorf("%v", err)
			}
			if n := network.Dials(); n != 0 {
				t.Errorf("%d dials", n)
			}
		})
	}
}
