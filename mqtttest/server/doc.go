// Package server is a test kit for programs that use MQTT: an in-memory network with faults, an
// MQTT server for it, and a peer that follows a script byte by byte. All of it works inside a
// testing/synctest bubble, where keep alives, expiries and backoffs cost no time, and needs no port
// outside of one.
//
// # Network
//
// A [Network] has a Dial of the signature that a client's dialer hook has, and listeners. Each
// connection is a [Link], the handle for its faults: [Link.Cut], [Link.CutAfter], [Link.Stall],
// [Link.Drop], [Link.Delay], [Link.Chunk], each in one [Direction] or both. [Network.Last] and
// [Server.LinkOf] find it, [Network.OnLink] sees it before its first byte. [Network.OnDial],
// [Network.RefuseDials] and [Network.DelayDials] are the faults of dials. The buffer of a
// connection is bounded: a Write waits when it is full, as on a socket.
//
// # Server
//
// [Start] puts a [Server] on a Network; [New] and [Server.Serve] put one on any net.Listener. It
// speaks 3.1, 3.1.1 and 5.0 with sessions and their expiry, retained messages, wills, QoS 0, 1 and 2
// within Receive Maximum, shared and overlapping subscriptions, topic aliases of the client, message
// expiry and takeover. It does not do enhanced authentication: CONNECT with an Authentication
// Method is refused with 0x8C.
//
// [Config] shapes its answers: CONNACK properties, refusals, hooks for each kind of request.
// [Server.Change] alters that while it runs. Acknowledgements can be withheld, delayed, repeated
// ([Config.OnAck]) or kept back and released in another order ([Server.Hold], [Server.Release]).
// [Server.Cut], [Server.Disconnect], [Server.Restart], [Server.DropSession] and [Server.Redeliver]
// are what servers do to their clients.
//
// The server watches its clients: [Server.Received] is every PUBLISH at its first sight,
// [Server.Packets] a trace of one client, and [Server.Violations] what a client did against the
// standard: packet identifiers taken while they are in use, DUP where it does not belong, resends
// on a live connection or out of order, acknowledgements out of order, Receive Maximum exceeded,
// packets behind DISCONNECT, malformed packets. A test of a client ends well with
//
//	if v := srv.Violations(); len(v) > 0 {
//		t.Error(v)
//	}
//
// Memory: logs keep their newest entries, and QoS 0 messages to a client that does not read are
// dropped above a bound. QoS 1 and 2 messages wait in sessions without a bound, and each session
// remembers the packet identifiers its client used.
//
// # Script
//
// Where the bytes themselves are the question, a [Peer] stands in for the server. It takes the
// client's connections one after the other as [Wire] values, which expect and send hex, and fail
// the test with both sides in hex and the packets' names. It uses no codec but for finding where a
// packet ends, so that a client and its test do not share a mistake.
//
//	func TestPublish(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			var network server.Network
//			peer := server.NewPeer(t, &network)
//			go client(network.Dial)
//			w := peer.Accept(t.Context())
//			w.Handshake(server.Connack3)
//			w.Expect("32 ?? 0001 74 ???? 78") // QoS 1, topic "t", any packet identifier
//			w.Cut()
//			w = peer.Accept(t.Context())
//			w.Handshake(server.Connack3Present)
//			w.Expect("3A ?? 0001 74 ???? 78")
//		})
//	}
package server
