package transport

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
)

// wsPeer is the server's side of a WebSocket in raw bytes, so that nothing is
// proved by gorilla talking to itself.
type wsPeer struct {
	conn    net.Conn
	in      *bufio.Reader
	request *http.Request
}

// acceptWS makes the upgrade, choosing the subprotocol if it is not empty.
func acceptWS(conn net.Conn, subprotocol string) (*wsPeer, error) {
	p := &wsPeer{conn: conn, in: bufio.NewReader(conn)}
	var err error
	if p.request, err = http.ReadRequest(p.in); err != nil {
		return nil, err
	}
	sum := sha1.Sum([]byte(p.request.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n"
	if subprotocol != "" {
		answer += "Sec-WebSocket-Protocol: " + subprotocol + "\r\n"
	}
	_, err = io.WriteString(conn, answer+"\r\n")
	return p, err
}

const (
	opContinue, opText, opBinary = 0x0, 0x1, 0x2
	opClose, opPing, opPong      = 0x8, 0x9, 0xA
)

// frame returns an unmasked frame, as a server sends it.
func frame(op byte, final bool, payload []byte) []byte {
	if final {
		op |= 0x80
	}
	out := []byte{op}
	switch n := len(payload); {
	case n <= 125:
		out = append(out, byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, 126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, 127), uint64(n))
	}
	return append(out, payload...)
}

// wsFrame is one frame read from the client.
type wsFrame struct {
	op      byte
	final   bool
	payload []byte
}

func (p *wsPeer) readFrame() (wsFrame, error) {
	var head [14]byte
	if _, err := io.ReadFull(p.in, head[:2]); err != nil {
		return wsFrame{}, err
	}
	f := wsFrame{op: head[0] & 0x0f, final: head[0]&0x80 != 0}
	if head[0]&0x70 != 0 || head[1]&0x80 == 0 {
		return f, fmt.Errorf("frame header % x: reserved bits or no mask", head[:2])
	}
	size := uint64(head[1] & 0x7f)
	extra := map[uint64]int{126: 2, 127: 8}[size]
	if _, err := io.ReadFull(p.in, head[2:2+extra+4]); err != nil {
		return f, err
	}
	switch extra {
	case 2:
		size = uint64(binary.BigEndian.Uint16(head[2:]))
	case 8:
		size = binary.BigEndian.Uint64(head[2:])
	}
	f.payload = make([]byte, size)
	if _, err := io.ReadFull(p.in, f.payload); err != nil {
		return f, err
	}
	for i, mask := range f.payload {
		f.payload[i] = mask ^ head[2+extra+i%4]
	}
	return f, nil
}

// echoWS answers each data frame with its payload.
func echoWS(conn net.Conn) {
	p, err := acceptWS(conn, "mqtt")
	if err != nil {
		return
	}
	for {
		f, err := p.readFrame()
		if err != nil || f.op == opClose {
			return
		}
		if _, err := conn.Write(frame(opBinary, true, f.payload)); err != nil {
			return
		}
	}
}

func echo(conn net.Conn) { _, _ = io.Copy(conn, conn) }
