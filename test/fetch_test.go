package mqtt_test

import (
	"testing"
	"testing/synctest"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/store"
)

// counting is a store that counts the bytes that are read from it.
type counting struct {
	store.Store
	bytes int
}

func (c *counting) Session(id string) (store.Session, error) {
	s, err := c.Store.Session(id)
	return &countingSession{s, c}, err
}

type countingSession struct {
	store.Session
	c *counting
}

func (s *countingSession) Read(keys []store.Key, visit func(int, []byte) error) error {
	return s.Session.Read(keys, func(i int, value []byte) error {
		s.c.bytes += len(value)
		return visit(i, value)
	})
}

// Of what is on disk alone no more is brought back ahead of the window than
// 4 MiB, however much there is.
func TestStoredMessagesAreFetchedAheadWithinABound(t *testing.T) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		const n, size, limit = 200, 64 << 10, 4 << 20
		d := newDisk()
		s := d.script(t, v, false)
		s.offline()
		for range n {
			s.conn.Publish(t.Context(), mqtt.Message{Topic: "t", Payload: make([]byte, size), QoS: 1})
		}
		synctest.Wait()
		s.crash()
		c := &counting{Store: d.mem}
		s = d.script(t, v, true, mqtt.WithStoreMemory(0), mqtt.WithStore(c), mqtt.WithMaxInflight(1))
		for id := range uint16(n) {
			s.ExpectPacket()
			synctest.Wait()
			if ahead := c.bytes - int(id+1)*size; ahead > limit+size {
				t.Fatalf("%d bytes are fetched ahead of message %d", ahead, id+1)
			}
			s.sendAck(0x40, id+1)
		}
	})
}
