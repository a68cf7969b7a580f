package mqtt_test

import (
	"encoding/binary"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/store"
)

// storedScript is a process with a session on disk whose server is the test.
type storedScript struct {
	*scripted
	p *process
}

// storedVersions are the versions whose server says whether it has the session.
func storedVersions(t *testing.T, test func(t *testing.T, v mqtt.Version)) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		t.Run(v.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, v) })
		})
	}
}

// onDisk is storedVersions with the first process on a new disk.
func onDisk(t *testing.T, test func(t *testing.T, v mqtt.Version, d *disk, s *storedScript)) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := newDisk()
		test(t, v, d, d.script(t, v, false))
	})
}

// onDiskWithInbox is onDisk with a durable inbox.
func onDiskWithInbox(t *testing.T, test func(t *testing.T, v mqtt.Version, d *disk, s *storedScript)) {
	storedVersions(t, func(t *testing.T, v mqtt.Version) {
		d := newDisk()
		test(t, v, d, d.inbox(t, v, false))
	})
}

// script starts a process on d; present is what its CONNACK says of the session.
func (d *disk) script(t *testing.T, v mqtt.Version, present bool, opts ...mqtt.ConnectOption) *storedScript {
	t.Helper()
	p := d.process(nil)
	s := scriptWith(t, v, connack(v, present), append([]mqtt.ConnectOption{
		mqtt.WithSession(time.Hour), mqtt.WithStore(p)}, opts...)...)
	p.network = s.net
	return &storedScript{s, p}
}

// crash ends the process: what its disk did not have is gone.
func (s *storedScript) crash() {
	s.p.kill()
	s.open()
	s.conn.Abort()
}

// hold makes commits wait until they are let go.
func (s *storedScript) hold() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.gate = make(chan struct{})
	s.t.Cleanup(s.open)
}

// letGo lets one commit go and waits for what follows.
func (s *storedScript) letGo() {
	s.t.Helper()
	select {
	case s.p.gate <- struct{}{}:
	case <-time.After(time.Minute):
		s.t.Fatal("no commit is in progress")
	}
	synctest.Wait()
}

// open lets all commits go from here on.
func (s *storedScript) open() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.p.gate != nil {
		close(s.p.gate)
		s.p.gate = nil
	}
}

// offline cuts the connection and makes every dial fail.
func (s *storedScript) offline() {
	s.t.Helper()
	s.net.RefuseDials(1_000_000, nil)
	time.Sleep(2 * time.Second)
	s.Cut()
	synctest.Wait()
}

// subscribedBehind is subscribed behind acknowledgements that the test has not read.
func (s *storedScript) subscribedBehind(filter string, qos byte, opts ...mqtt.SubscribeOption) *mqtt.Subscription {
	s.t.Helper()
	sub, err := s.conn.Subscribe(s.t.Context(), filter, append(opts, mqtt.WithoutWaiting())...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.grant(qos)
	return sub
}

// grant reads up to the next SUBSCRIBE and answers it.
func (s *storedScript) grant(codes ...byte) {
	s.t.Helper()
	p := s.ExpectPacket()
	for p[0] != 0x82 {
		p = s.ExpectPacket()
	}
	s.suback(0x90, binary.BigEndian.Uint16(p[2:]), codes...)
}

// records are the keys on d, of the client's session.
func (d *disk) records(t *testing.T) (keys []store.Key) {
	t.Helper()
	d.session(t, func(s store.Session) {
		s.Load(func(e store.Entry) error {
			keys = append(keys, e.Key)
			return nil
		})
	})
	return keys
}

// session gives do the client's session, which no process may have open.
func (d *disk) session(t *testing.T, do func(store.Session)) {
	t.Helper()
	s, err := d.mem.Session("c")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	do(s)
}

// put writes value by hand.
func (d *disk) put(t *testing.T, kind store.Kind, seq uint64, value []byte) {
	t.Helper()
	d.session(t, func(s store.Session) {
		if err := s.Commit([]store.Op{{Key: store.Key{Kind: kind, Seq: seq}, Body: value}}); err != nil {
			t.Fatal(err)
		}
	})
}

// value reads the record of a kind with the i-th lowest number.
func (d *disk) value(t *testing.T, kind store.Kind, i int) (key store.Key, value []byte) {
	t.Helper()
	d.session(t, func(s store.Session) {
		s.Load(func(e store.Entry) error {
			if e.Key.Kind == kind {
				if i == 0 {
					key, value = e.Key, slices.Clone(e.Value)
				}
				i--
			}
			return nil
		})
	})
	if value == nil {
		t.Fatalf("no such record of kind %v", kind)
	}
	return key, value
}

// told returns the events of type E that conn has told so far.
func told[E mqtt.Event](conn *mqtt.Conn) (all []E) {
	synctest.Wait()
	for {
		select {
		case ev, open := <-conn.Events():
			if !open {
				return all
			}
			if e, ok := ev.(E); ok {
				all = append(all, e)
			}
		default:
			return all
		}
	}
}

// keyed is a message with a key of the application's.
func keyed(key string, qos mqtt.QoS) mqtt.Message {
	return mqtt.Message{Topic: "t", Payload: []byte(key), QoS: qos, Properties: &mqtt.Properties{Key: key}}
}

// closeEmpty closes the Conn, and checks that d has nothing that is still to be done.
func (s *storedScript) closeEmpty(d *disk) {
	s.t.Helper()
	s.conn.Close()
	checkEmpty(s.t, d)
}

// checkEmpty checks that nothing stayed in the store once everything was resolved.
func checkEmpty(t *testing.T, d *disk) {
	t.Helper()
	s, err := d.mem.Session("c")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Load(func(e store.Entry) error {
		if e.Key.Kind != store.Meta {
			t.Errorf("left in the store: %v", e.Key)
		}
		return nil
	})
}
