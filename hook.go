package mqtt

import (
	"sync/atomic"
	"time"

	"github.com/millrace/mqtt/codec"
)

// packetHooks calls the packet hook of the application with the packets that a link sends
// and receives. The hook runs on the goroutines of the link, which the Conn waits for: the
// marks show whether a call has not returned.
type packetHooks struct {
	hook           func(PacketInfo) // nil without one
	payload        bool             // PacketInfo has the payload of a PUBLISH
	reader, writer callMark
}

// received calls the hook with a packet that the reader is about to handle.
func (h *packetHooks) received(v Version, link uint32, f *codec.Frame) {
	info := PacketInfo{Type: f.Type, Size: f.Size, Link: link}
	info.identify(f.Type, f.Flags, f.Body)
	if h.payload && !f.Oversize {
		info.Payload = payloadOf(v, f.Type, f.Flags, f.Body)
	}
	h.reader.call(h.hook, info)
}

// sent calls the hook with the packets of b, which the writer is about to write.
func (h *packetHooks) sent(v Version, link uint32, b *sendBuffer) {
	for at, refs := 0, b.refs; at < len(b.buf); {
		t, flags, rest, n, err := codec.ParseHeader(b.buf[at:])
		if err != nil || n == 0 {
			break
		}
		info := PacketInfo{Sent: true, Type: t, Size: n + rest, Link: link}
		body := b.buf[at+n : min(at+n+rest, len(b.buf))]
		info.identify(t, flags, body)
		beside := len(refs) > 0 && refs[0].at < at+n+rest
		switch {
		case h.payload && beside:
			info.Payload = refs[0].payload
		case h.payload:
			info.Payload = payloadOf(v, t, flags, body)
		}
		at += n + rest
		if beside {
			at -= len(refs[0].payload) // which is not in buf
			refs = refs[1:]
		}
		h.writer.call(h.hook, info)
	}
}

// payloadOf returns the payload of a PUBLISH, nil for any other packet.
func payloadOf(v Version, t codec.Type, flags byte, body []byte) []byte {
	var p codec.PublishView
	if t != codec.PUBLISH || p.DecodeLayout(v, flags, body) != nil {
		return nil
	}
	return p.Payload
}

// callMark shows whether the packet hook is running on one goroutine. It costs three
// atomic operations a call.
type callMark struct {
	calls   atomic.Uint64
	running atomic.Bool
}

// call calls the packet hook.
func (m *callMark) call(hook func(PacketInfo), info PacketInfo) {
	m.calls.Add(1)
	m.running.Store(true)
	defer m.running.Store(false)
	hook(info)
}

// runningCalls says which calls of the packet hook were running at one moment: their
// numbers by goroutine, 0 for none.
type runningCalls struct {
	reader, writer uint64
	at             time.Time
}

// runningCall returns the number of the call that is running, 0 when none is.
func (m *callMark) runningCall() uint64 {
	n := m.calls.Load()
	if !m.running.Load() {
		return 0
	}
	return n
}

// running returns the calls that are running now.
func (h *packetHooks) running() runningCalls {
	return runningCalls{h.reader.runningCall(), h.writer.runningCall(), time.Now()}
}

// stuck reports whether a call of l is still running at the later moment of now.
func (l runningCalls) stuck(now runningCalls) bool {
	return l.reader != 0 && l.reader == now.reader || l.writer != 0 && l.writer == now.writer
}
