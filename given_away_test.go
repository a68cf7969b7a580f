package mqtt

import (
	"context"
	"testing"
	"unsafe"
)

// seeingConn sees the memory that it is given to write.
type seeingConn struct {
	deadConn
	saw func(p []byte)
}

func (c seeingConn) Write(p []byte) (int, error) { c.saw(p); return len(p), nil }

// A large payload given away is handed to a socket of the system as it is. One of a
// dialer's own kind, whose Write may go on reading when its link has ended, gets a
// copy; so does every socket of a payload that the caller keeps.
func TestGivenAwayPayloadIsNotCopied(t *testing.T) {
	payload := make([]byte, 64<<10)
	for _, foreign := range []bool{false, true} {
		for qos := range QoS(3) {
			for _, given := range []bool{false, true} {
				same := false
				o := newTestOutbound(testQueue(10))
				l := newFakeLink(o, 1, V5, 10)
				l.foreign = foreign
				l.nc = seeingConn{saw: func(p []byte) { same = same || unsafe.SliceData(p) == unsafe.SliceData(payload) }}
				o.up(&l.sender, false, 0, func() {})
				m := Message{Topic: "t", Payload: payload, QoS: qos}
				if given {
					m = m.GiveAway()
				}
				o.publish(context.Background(), &m, false)
				l.writes.enter()
				var w socketWriter
				if err := w.write(&l.socket, o.swap(&l.sender, new(sendBuffer))); err != nil {
					t.Fatal(err)
				}
				if want := given && !foreign; same != want {
					t.Errorf("QoS %d, given away %v, foreign %v: the caller's memory was written: %v", qos, given, foreign, same)
				}
			}
		}
	}
}
