// Package transport turns a server URL into a net.Conn: TCP, TLS, unix
// sockets, WebSocket with and without TLS, DNS SRV names, HTTP CONNECT and
// SOCKS5 proxies. It knows nothing of MQTT packets.
//
// [Parse] reads the URL, a [Dialer] holds the settings, and [Dialer.Dial] runs
// the steps a URL needs. All of them end with the context; a failure is a
// [*StepError] that names the step and wraps the cause.
//
// # URLs
//
//	mqtt://host[:1883]   tcp://                 plain TCP
//	mqtts://host[:8883]  ssl://  tls://         TLS
//	ws://host[:80]/path                         WebSocket
//	wss://host[:443]/path                       WebSocket over TLS
//	unix:///run/x.sock   unix:/run/x.sock       unix socket
//	mqtt+srv://domain    mqtts+srv://domain     DNS SRV, _mqtt._tcp and _secure-mqtt._tcp
//
// A user name and password in the URL belong to MQTT. They are given to no
// HTTP server or proxy, and no formatting of a [URL] shows the password or the
// query, which often carries a signature.
//
// # One writer
//
// Only one goroutine may write to a connection, of whatever transport:
// packets are written whole, and an interleaved write would corrupt the
// stream. Reads, Close and the deadline setters may run beside it. On a
// [*WebSocketConn] that goroutine also sends the answers to the peer's pings;
// see [WebSocketConn.FlushControl].
//
// A plain TCP or unix connection is returned as the net package made it, so
// net.Buffers reaches writev.
package transport
