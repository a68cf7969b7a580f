package mqtt_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// take receives the next message of a channel.
func take[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case m, ok := <-ch:
		if !ok {
			t.Fatal("the channel is closed")
		}
		return m
	case <-time.After(100 * time.Second):
		t.Fatal("nothing came")
	}
	panic("unreachable")
}

// expect receives messages with these payloads, in this order.
func expect(t *testing.T, ch <-chan mqtt.Message, payloads ...string) {
	t.Helper()
	for _, want := range payloads {
		if m := take(t, ch); string(m.Payload) != want {
			t.Fatalf("got %q on %q, want %q", m.Payload, m.Topic, want)
		}
	}
}

// idle fails the test when ch has anything, or is closed.
func idle[T any](t *testing.T, ch <-chan T) {
	t.Helper()
	synctest.Wait()
	select {
	case m, ok := <-ch:
		t.Fatalf("got %v, open %v, want nothing", m, ok)
	default:
	}
}

// drainClosed reads what is left in ch until it is closed.
func drainClosed[T any](t *testing.T, ch <-chan T) (rest []T) {
	t.Helper()
	for {
		select {
		case m, ok := <-ch:
			if !ok {
				return rest
			}
			rest = append(rest, m)
		case <-time.After(100 * time.Second):
			t.Fatal("the channel was not closed")
		}
	}
}

// next waits for the next event of a type.
func nextEvent[E mqtt.Event](t *testing.T, events <-chan mqtt.Event) E {
	t.Helper()
	for {
		if e, ok := take(t, events).(E); ok {
			return e
		}
	}
}

// publish makes the server send messages to its subscribers.
func publish(t *testing.T, srv *server.Server, topic string, qos byte, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		if err := srv.Publish(topic, []byte(p), qos, false); err != nil {
			t.Fatal(err)
		}
	}
}

// numbers are the texts of from to to.
func numbers(from, to int) (all []string) {
	for i := from; i <= to; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// held are the filters that the server has for the client, sorted.
func held(srv *server.Server) (filters []string) {
	info, _ := srv.Session("c")
	for _, s := range info.Subscriptions {
		filters = append(filters, s.Filter)
	}
	slices.Sort(filters)
	return filters
}

// asked are the SUBSCRIBE or UNSUBSCRIBE packets that the server got on one
// connection, each as its filters.
func asked(t *testing.T, srv *server.Server, v mqtt.Version, typ codec.Type, link int) (packets [][]string) {
	t.Helper()
	for _, p := range srv.Packets("c") {
		if !p.FromClient || p.Type != typ || p.Link != link {
			continue
		}
		var filters []string
		if typ == codec.SUBSCRIBE {
			var s codec.Subscribe
			if err := s.Decode(v, p.Body); err != nil {
				t.Fatal(err)
			}
			for _, f := range s.Subscriptions {
				filters = append(filters, f.Filter)
			}
		} else {
			var u codec.Unsubscribe
			if err := u.Decode(v, p.Body); err != nil {
				t.Fatal(err)
			}
			filters = u.Filters
		}
		packets = append(packets, filters)
	}
	return packets
}

// sorted joins packets into one sorted list.
func sorted(packets [][]string) []string {
	all := slices.Concat(packets...)
	slices.Sort(all)
	return all
}

// links returns the number of connections that the session had.
func links(srv *server.Server) int {
	info, _ := srv.Session("c")
	return info.Links
}

// rawSubscribe makes a SUBSCRIBE, by no codec; entries are filter and options.
// subID is left out on 3.x.
func rawSubscribe(v mqtt.Version, id uint16, subID byte, entries ...any) []byte {
	body := binary.BigEndian.AppendUint16(nil, id)
	if v == mqtt.V5 {
		body = append(body, 2, 0x0B, subID)
	}
	for i := 0; i < len(entries); i += 2 {
		f := entries[i].(string)
		body = binary.BigEndian.AppendUint16(body, uint16(len(f)))
		body = append(body, f...)
		body = append(body, byte(entries[i+1].(int)))
	}
	return append([]byte{0x82, byte(len(body))}, body...)
}

// rawUnsubscribe makes an UNSUBSCRIBE, by no codec.
func rawUnsubscribe(v mqtt.Version, id uint16, filters ...string) []byte {
	body := binary.BigEndian.AppendUint16(nil, id)
	if v == mqtt.V5 {
		body = append(body, 0)
	}
	for _, f := range filters {
		body = binary.BigEndian.AppendUint16(body, uint16(len(f)))
		body = append(body, f...)
	}
	return append([]byte{0xA2, byte(len(body))}, body...)
}

// suback answers a SUBSCRIBE, or with head 0xB0 an UNSUBSCRIBE.
func (s *scripted) suback(head byte, id uint16, codes ...byte) {
	s.t.Helper()
	body := binary.BigEndian.AppendUint16(nil, id)
	if s.v == mqtt.V5 {
		body = append(body, 0)
	}
	if head == 0x90 || s.v == mqtt.V5 {
		body = append(body, codes...)
	}
	s.SendBytes(append([]byte{head, byte(len(body))}, body...))
	synctest.Wait()
}

// message sends a PUBLISH to the client; on 5.0 with subscription identifiers.
func (s *scripted) message(head byte, id uint16, topic, payload string, subIDs ...byte) {
	s.t.Helper()
	b := rawPublish(s.v, head, id, topic, payload)
	if s.v == mqtt.V5 && len(subIDs) > 0 {
		at := 2 + 2 + len(topic)
		if head&6 != 0 {
			at += 2
		}
		props := []byte{byte(2 * len(subIDs))}
		for _, i := range subIDs {
			props = append(props, 0x0B, i)
		}
		b = slices.Concat(b[:at], props, b[at+1:])
		b[1] += byte(2 * len(subIDs))
	}
	s.SendBytes(b)
	synctest.Wait()
}

// subscribed subscribes in the script's server, granting QoS.
func (s *scripted) subscribed(filter string, qos byte, opts ...mqtt.SubscribeOption) *mqtt.Subscription {
	s.t.Helper()
	sub, err := s.conn.Subscribe(s.t.Context(), filter, append(opts, mqtt.WithoutWaiting())...)
	if err != nil {
		s.t.Fatal(err)
	}
	p := s.ExpectPacket()
	if p[0] != 0x82 || !strings.Contains(string(p), filter) {
		s.t.Fatalf("got % X, want SUBSCRIBE of %q", p, filter)
	}
	s.suback(0x90, binary.BigEndian.Uint16(p[2:]), qos)
	<-sub.Ready()
	if err := sub.Err(); err != nil {
		s.t.Fatal(err)
	}
	return sub
}

// subscribe is Subscribe that must go well.
func subscribe(t *testing.T, c *mqtt.Conn, filter string, opts ...mqtt.SubscribeOption) *mqtt.Subscription {
	t.Helper()
	sub, err := c.Subscribe(t.Context(), filter, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}
