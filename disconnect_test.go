package mqtt

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// A DISCONNECT whose properties cannot be encoded is sent without them, so that the
// end takes no longer for it. No option makes one.
func TestDisconnectThatCannotBeEncodedIsSentWithoutText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &server.Network{}
		peer := server.NewPeer(t, network)
		conn, err := Connect(t.Context(), "mqtt://server", WithClientID("c"), WithDialer(network.Dial), WithKeepAlive(-1),
			WithFirstConnect(FirstConnectBackground))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Abort)
		w := peer.Accept(t.Context())
		w.Handshake(server.Connack)
		synctest.Wait()
		notUTF8 := disconnectFunc(func(p *codec.Disconnect) error {
			p.Props = &codec.Properties{ReasonString: "\xff"}
			p.Props.Present = p.Props.Present.With(codec.PropReasonString)
			return nil
		})
		go func() {
			w.Expect("E0 00")
			w.Close()
		}()
		began := time.Now()
		if err := conn.Disconnect(t.Context(), notUTF8); err != nil {
			t.Errorf("Disconnect: %v", err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("Disconnect after %v, want none", took)
		}
	})
}
