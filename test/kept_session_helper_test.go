package mqtt_test

import (
	"encoding/binary"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// keptSession is a session that a former process left at a server which has at
// most 10 messages in flight.
type keptSession struct {
	t       *testing.T
	v       mqtt.Version
	srv     *server.Server
	network *server.Network
}

func keepSession(t *testing.T, v mqtt.Version, filters ...string) *keptSession {
	t.Helper()
	former, srv, network := serve(t, v, server.Config{Inflight: 10}, mqtt.WithSession(time.Hour))
	for _, f := range filters {
		subscribe(t, former, f, mqtt.QoS(2))
	}
	former.Close()
	return &keptSession{t, v, srv, network}
}

// connect is the next process.
func (k *keptSession) connect(opts ...mqtt.ConnectOption) *mqtt.Conn {
	k.t.Helper()
	opts = append([]mqtt.ConnectOption{
		mqtt.WithClientID("c"), mqtt.WithVersions(k.v), mqtt.WithDialer(k.network.Dial), mqtt.WithBackoff(steady(time.Second)),
		mqtt.WithSession(time.Hour),
	}, opts...)
	conn, err := mqtt.Connect(k.t.Context(), "mqtt://server", opts...)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { conn.Close() })
	synctest.Wait()
	return conn
}

// open is how many messages the server has sent and not seen through.
func (k *keptSession) open() int {
	synctest.Wait()
	info, _ := k.srv.Session("c")
	return info.Open
}

// allAcked fails the test unless the server has nothing left for the client, and
// acknowledgements left in the order of arrival on every link.
func (k *keptSession) allAcked() {
	k.t.Helper()
	eventually(k.t, "all acknowledged", func() bool {
		info, _ := k.srv.Session("c")
		return info.Open+info.Queued == 0
	})
	for link := 2; link <= links(k.srv); link++ {
		for qos, ack := range map[byte]codec.Type{1: codec.PUBACK, 2: codec.PUBREC} {
			sent, acked := k.ids(link, codec.PUBLISH, qos), k.ids(link, ack, 0)
			if len(acked) > len(sent) || !slices.Equal(acked, sent[:len(acked)]) {
				k.t.Errorf("link %d: %v for the PUBLISHes %v", link, acked, sent)
			}
		}
	}
}

// ids are the packet identifiers of PUBLISHes of a QoS, or of acknowledgements.
func (k *keptSession) ids(link int, typ codec.Type, qos byte) (ids []uint16) {
	for _, p := range k.srv.Packets("c") {
		switch {
		case p.Link != link || p.Type != typ:
		case p.FromClient && typ != codec.PUBLISH:
			ids = append(ids, binary.BigEndian.Uint16(p.Body))
		case !p.FromClient && typ == codec.PUBLISH && p.Flags>>1&3 == qos:
			ids = append(ids, binary.BigEndian.Uint16(p.Body[2+binary.BigEndian.Uint16(p.Body):]))
		}
	}
	return ids
}
