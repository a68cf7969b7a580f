package mqtt_test

import (
	"testing"
	"testing/synctest"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/mqtttest/server"
)

// A server that has spoken 5.0 to this Conn, be it to refuse, does not close the connection for the
// version: the error has no hint to downgrade, and WithDowngradeOnClose does not do so.
func TestNoDowngradeOfAServerThatSpeaks5(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		speaks       bool
	}{
		{"a link", server.Connack, true},
		{"not authorized", server.ConnackForbidden, true},
		{"busy", server.ConnackBusy, true},
		{"bad session present", "20 03 01 00 00", true},
		{"DISCONNECT", "E0 02 89 00", true},
		{"AUTH", "F0 00", true},
		{"0x84", server.ConnackVersion5, false},
		{"a refusal of 3.x", server.ConnackVersion3, false},
		{"a packet of any version", "D0 00", false},
		{"nothing", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := dial(t, mqtt.WithVersions(mqtt.V5))
				w, _ := d.accept(tt.answer)
				synctest.Wait()
				w.Close()
				await[mqtt.Retrying](t, d.conn.Events())
				w, _ = d.accept("")
				w.Close()
				ev := await[mqtt.Retrying](t, d.conn.Events())
				if hint := containsText(ev.Err, "WithDowngradeOnClose"); hint == tt.speaks {
					t.Errorf("hint %t: %v", hint, ev.Err)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		d := dial(t, mqtt.WithDowngradeOnClose())
		d.accept(server.ConnackBusy)
		await[mqtt.Retrying](t, d.conn.Events())
		w, _ := d.accept("")
		w.Close()
		if _, connect := d.accept(server.Connack); connect[8] != 5 {
			t.Errorf("version %d for a server that speaks 5.0", connect[8])
		}
	})
}
