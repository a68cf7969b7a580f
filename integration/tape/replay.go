package tape

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/millrace/mqtt/codec"
)

// Packet is a packet as a tape shows it. Its Frame is valid during the visit.
type Packet struct {
	ClientID string // as it stands in CONNECT
	Version  codec.Version
	Down     bool // from the broker
	Frame    codec.Frame
}

// Replay shows the packets of a tape in their order, those of both directions
// between each other as they were noted. Only a tape in plain MQTT can be
// replayed, one from behind TLS and WebSocket. A packet that is cut off by the
// end of the tape is not shown, and what comes before CONNECT neither. The error
// is visit's, or says what on the tape is no packet.
func Replay(path string, visit func(Packet) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	p := player{visit: visit, up: codec.NewFramer(codec.V5, 0), down: codec.NewFramer(codec.V5, 0)}
	in := bufio.NewReaderSize(file, 64<<10)
	for {
		var head [headSize]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return ended(path, err)
		}
		piece := io.LimitReader(in, int64(binary.BigEndian.Uint32(head[1:])))
		if err := p.play(head[0] == 1, piece); err != nil {
			return ended(path, err)
		}
	}
}

// ended returns nil where the tape ends, though it be within a piece: whoever
// recorded it was killed.
func ended(path string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return fmt.Errorf("%s: %w", path, err)
}

// player takes a tape apart.
type player struct {
	visit    func(Packet) error
	up, down *codec.Framer
	seen     Packet // what CONNECT said
	known    bool   // CONNECT came
}

// play shows the packets that a piece completes.
func (p *player) play(down bool, piece io.Reader) error {
	framer := p.up
	if down {
		framer = p.down
	}
	for {
		_, err := framer.Fill(piece)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := p.frames(framer, down); err != nil {
			return err
		}
	}
}

func (p *player) frames(framer *codec.Framer, down bool) error {
	for {
		frame, ok, err := framer.Next()
		if err != nil || !ok {
			return err
		}
		if frame.Type == codec.CONNECT {
			if err := p.connect(frame); err != nil {
				return err
			}
		}
		if !p.known {
			continue
		}
		packet := p.seen
		packet.Down, packet.Frame = down, frame
		if err := p.visit(packet); err != nil {
			return err
		}
	}
}

func (p *player) connect(frame codec.Frame) error {
	var c codec.Connect
	if err := c.Decode(frame.Body); err != nil {
		return err
	}
	p.seen, p.known = Packet{ClientID: c.ClientID, Version: c.Version}, true
	p.up.SetVersion(c.Version)
	p.down.SetVersion(c.Version)
	return nil
}
