package mqtt_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
)

// waiting is a process that may send one message at a time: the server has not
// answered the first, and two more wait with their packet identifiers stored.
// The first of these expires after a second.
func waiting(t *testing.T) (d *disk, s *storedScript, first *mqtt.Future) {
	t.Helper()
	d = newDisk()
	s = d.script(t, mqtt.V5, false, mqtt.WithMaxInflight(1))
	s.conn.Publish(t.Context(), keyed("a", 1))
	s.expectPublish(0x32, 1, "t", "a")
	short := keyed("b", 1)
	short.Properties.Expiry = time.Second
	first = s.conn.Publish(t.Context(), short)
	s.conn.Publish(t.Context(), keyed("c", 1))
	synctest.Wait()
	return d, s, first
}

// gapEnds are ways in which the message before others ends unsent.
var gapEnds = map[string]func(*mqtt.Future){
	"expired":  func(*mqtt.Future) { time.Sleep(2 * time.Second) },
	"canceled": func(f *mqtt.Future) { f.Cancel() },
}

// A message that ended unsent was sent by the next process, with DUP, before
// those that this one had sent in its place [MQTT-4.6.0-1].
func TestNothingOvertakesAMessageThatMayComeBack(t *testing.T) {
	for name, end := range gapEnds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, s, f := waiting(t)
				s.hold()
				end(f)
				s.Send("40 02 0001")
				s.ExpectNothing(time.Second)
				s.crash()
				s = d.script(t, mqtt.V5, true, mqtt.WithMaxInflight(1))
				for _, publish := range []string{
					"3A 07 0001 74 0001 00 61",
					"3A 0C 0001 74 0002 05 02 00000001 62",
					"3A 07 0001 74 0003 00 63",
				} {
					s.Expect(publish)
					s.Send("40 02" + publish[len("3A 07 0001 74"):len("3A 07 0001 74 0001")])
				}
			})
		})
	}
}

// What waits behind a gap goes on as soon as the store has let go of it.
func TestSendingGoesOnAfterTheDeletion(t *testing.T) {
	for name, end := range gapEnds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, s, f := waiting(t)
				s.hold()
				end(f)
				s.Send("40 02 0001")
				s.ExpectNothing(time.Second)
				s.open()
				s.expectPublish(0x32, 3, "t", "c")
			})
		})
	}
}

// It is the batch with the deletion that closes a gap, not the one that was under
// way when the message ended.
func TestSendingGoesOnWithTheBatchOfTheDeletion(t *testing.T) {
	for name, end := range gapEnds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, s, f := waiting(t)
				s.hold()
				s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", QoS: 1})
				synctest.Wait()
				end(f)
				s.Send("40 02 0001")
				synctest.Wait()
				s.letGo()
				s.ExpectNothing(time.Second)
				s.letGo()
				s.expectPublish(0x32, 3, "t", "c")
			})
		})
	}
}
