package mqtt

import (
	"net"
	"path/filepath"
	"testing"
)

// A full buffer takes one call over a unix socket, as over TCP.
func TestUnixSocketIsGivenLargePieces(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	l := &socket{nc: nc}
	l.watchSocket()
	if l.piece != writePiece {
		t.Errorf("pieces of %d bytes", l.piece)
	}
}
