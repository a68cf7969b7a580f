package tape

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/millrace/mqtt/codec"
)

// record writes a tape of a CONNECT and four more packets, cut into pieces of n
// bytes, and returns its path.
func record(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tape")
	r, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	note := func(down bool, packet []byte) {
		for piece := range slices.Chunk(packet, n) {
			r.Note(down, piece)
		}
	}
	connect, err := codec.AppendConnect(nil, codec.V311, &codec.Connect{ClientID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	note(true, codec.AppendPingresp(nil)) // before CONNECT
	note(false, connect)
	note(false, codec.AppendPublish(nil, codec.V311, &codec.Publish{QoS: 1, PacketID: 7, Topic: "t", Payload: make([]byte, 200)}))
	note(true, codec.AppendAck(nil, codec.V311, codec.PUBACK, 7, codec.Success, nil))
	note(false, codec.AppendAck(nil, codec.V311, codec.PUBREL, 8, codec.Success, nil))
	note(true, codec.AppendAck(nil, codec.V311, codec.PUBCOMP, 8, codec.Success, nil))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func replayed(path string) (seen []string, err error) {
	err = Replay(path, func(p Packet) error {
		seen = append(seen, fmt.Sprint(p.ClientID, " ", p.Version, " ", p.Down, " ", p.Frame.Type))
		return nil
	})
	return seen, err
}

func TestReplayShowsPackets(t *testing.T) {
	want := []string{"c 3.1.1 false CONNECT", "c 3.1.1 false PUBLISH", "c 3.1.1 true PUBACK", "c 3.1.1 false PUBREL", "c 3.1.1 true PUBCOMP"}
	for _, n := range []int{1, 3, 1000} {
		seen, err := replayed(record(t, n))
		if err != nil || !slices.Equal(seen, want) {
			t.Errorf("in pieces of %d: %q, %v", n, seen, err)
		}
	}
}

// TestReplayEndsWithTheTape cuts a tape anywhere, as a killed recorder does.
func TestReplayEndsWithTheTape(t *testing.T) {
	path := record(t, 3)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole, _ := replayed(path)
	for n := range text {
		if err := os.Truncate(path, int64(len(text)-1-n)); err != nil {
			t.Fatal(err)
		}
		seen, err := replayed(path)
		if err != nil || !slices.Equal(seen, whole[:len(seen)]) {
			t.Fatalf("%d bytes less: %q, %v", n+1, seen, err)
		}
	}
}

func TestReplayErrors(t *testing.T) {
	if _, err := replayed(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no tape: %v", err)
	}
	path := record(t, 1000)
	mine := errors.New("mine")
	if err := Replay(path, func(Packet) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("visit's error: %v", err)
	}
	r, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	r.Note(false, []byte{0, 0}) // packet type 0
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := replayed(path); err == nil {
		t.Error("no error for what is no packet")
	}
}
