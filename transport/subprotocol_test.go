package transport

import (
	"errors"
	"net"
	"testing"
)

// Some servers answer with the list that they were offered instead of one choice from it; the
// first name of such an answer counts.
func TestSubprotocolAnswerThatListsSeveral(t *testing.T) {
	both := []string{"mqtt", "mqttv3.1"}
	tests := []struct {
		answer  string
		offered []string
		want    string // empty: refused
	}{
		{"mqtt, mqttv3.1", both, "mqtt"},
		{"mqtt,mqttv3.1", both, "mqtt"},
		{" mqttv3.1 \t, mqtt", both, "mqttv3.1"},
		{"mqtt, mqttv3.1", nil, "mqtt"}, // also when not all of them were offered
		{"mqttv3.1, mqtt", nil, ""},
		{", mqtt", nil, ""},
		{",", nil, ""},
		{"MQTT, mqtt", nil, ""}, // the case of a subprotocol counts
		{"mqtt mqttv3.1", both, ""},
	}
	for _, tt := range tests {
		for _, tolerant := range []bool{false, true} {
			n := newMemNet(t)
			n.handlers["broker.test:80"] = func(conn net.Conn) { _, _ = acceptWS(conn, tt.answer) }
			d := Dialer{DialFunc: n.dial, Subprotocols: tt.offered, AllowMissingSubprotocol: tolerant}
			conn, err := d.Dial(t.Context(), mustParse(t, "ws://broker.test"))
			switch bad, refused := errors.AsType[*SubprotocolError](err); {
			case tt.want == "" && !refused:
				t.Errorf("answer %q to %q: got %v, want a SubprotocolError", tt.answer, tt.offered, err)
			case refused && (tt.want != "" || bad.Chosen == ""):
				t.Errorf("answer %q to %q: got %v", tt.answer, tt.offered, err)
			case tt.want != "" && (err != nil || conn.(*WebSocketConn).Subprotocol() != tt.want):
				t.Errorf("answer %q to %q: got %v, %v; want %q", tt.answer, tt.offered, conn, err, tt.want)
			}
		}
	}
}
