package mqtt_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// Payload Format Indicator 1 promises well-formed UTF-8 (section 3.3.2.3.2): what is
// not is refused before any I/O, on every way to publish it.
func TestPayloadThatIsNotTheTextItClaimsToBeIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, mqtt.V5)
		text := &mqtt.Properties{UTF8: true}
		for _, bad := range []string{"\xFF", "a\xC3\x28", "\xED\xA0\x80", strings.Repeat("x", 1<<20) + "\xC3"} {
			m := mqtt.Message{Topic: "t", Payload: []byte(bad), Properties: text}
			for qos := range mqtt.QoS(3) {
				m.QoS = qos
				wantErr(t, "Publish", s.conn.Publish(t.Context(), m).Err(), mqtt.ErrInvalid)
				wantErr(t, "TryPublish", s.conn.TryPublish(m).Err(), mqtt.ErrInvalid)
				wantErr(t, "given away", s.conn.Publish(t.Context(), m.GiveAway()).Err(), mqtt.ErrInvalid)
				wantErr(t, "PublishAs", mqtt.PublishAs(t.Context(), s.conn, m, mqtt.UTF8(), bad).Err(), mqtt.ErrInvalid)
			}
		}
		s.ExpectNothing(time.Minute)
		for _, good := range []string{"", "a", "ä世\U0001F600", "a\x00b", "\uFEFF"} {
			f := s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: []byte(good), Properties: text})
			s.ExpectBytes(append([]byte{0x30, byte(6 + len(good)), 0, 1, 't', 2, 1, 1}, good...))
			succeeded(t, f)
		}
	})
}

func TestWillThatIsNotTheTextItClaimsToBeIsRefused(t *testing.T) {
	var network server.Network
	w := mqtt.Will{Message: mqtt.Message{Topic: "w", Payload: []byte("\xFF"), Properties: &mqtt.Properties{UTF8: true}}}
	_, err := mqtt.Connect(t.Context(), "mqtt://server", mqtt.WithDialer(network.Dial), mqtt.WithWill(w))
	wantErr(t, "Connect", err, mqtt.ErrInvalid)
}

// A received message has Properties only for what they can say: not for
// subscription identifiers, however many, nor for a property at its default.
func TestReceivedPropertiesAreNilWhenTheySayNothing(t *testing.T) {
	for name, c := range map[string]struct {
		props string
		some  bool
	}{
		"none":                           {"00", false},
		"one subscription identifier":    {"02 0B 01", false},
		"two subscription identifiers":   {"04 0B 01 0B 02", false},
		"a long and a short one":         {"06 0B 808001 0B 02", false},
		"payload format 0":               {"02 01 00", false},
		"empty content type":             {"03 03 0000", false},
		"payload format 1":               {"02 01 01", true},
		"identifiers and a content type": {"08 0B 01 0B 02 03 0001 63", true},
		"a user property":                {"07 26 0001 6B 0001 76", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := script(t, mqtt.V5)
				sub := s.subscribed("t", 1)
				props := server.Hex(c.props)
				s.SendBytes(append([]byte{0x30, byte(3 + len(props)), 0, 1, 't'}, props...))
				if m := take(t, sub.C()); (m.Properties != nil) != c.some {
					t.Errorf("%+v", m.Properties)
				}
			})
		})
	}
}
