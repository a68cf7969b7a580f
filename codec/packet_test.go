package codec

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// ping stands for PINGREQ and PINGRESP, which have no struct of their own.
type ping struct{ Type Type }

var versions = []Version{V31, V311, V5}

// unhex reads hex with spaces between groups.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatalf("bad hex %q: %v", s, err)
	}
	return b
}

// frameOf runs wire, one packet, through a Framer.
func frameOf(v Version, wire []byte) (Frame, error) {
	f := NewFramer(v, 0)
	r := bytes.NewReader(wire)
	for {
		frame, ok, err := f.Next()
		if err != nil || ok {
			return frame, err
		}
		if n, err := f.Fill(r); n == 0 {
			return Frame{}, fmt.Errorf("no whole packet: %w", err)
		}
	}
}

// decodePacket frames and decodes one packet into the value that appendPacket takes.
func decodePacket(v Version, wire []byte) (any, error) {
	f, err := frameOf(v, wire)
	if err != nil {
		return nil, err
	}
	return decodeBody(v, f.Type, f.Flags, f.Body)
}

type decoder interface {
	Decode(v Version, body []byte) error
}

func decodeBody(v Version, t Type, flags byte, body []byte) (any, error) {
	var d decoder
	switch t {
	case CONNECT:
		p := new(Connect)
		return p, p.Decode(body)
	case PUBLISH:
		return decodePublish(v, flags, body)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		p := new(Ack)
		return p, p.Decode(v, t, body)
	case PINGREQ, PINGRESP:
		return &ping{t}, nil
	case CONNACK:
		d = new(Connack)
	case SUBSCRIBE:
		d = new(Subscribe)
	case SUBACK:
		d = new(Suback)
	case UNSUBSCRIBE:
		d = new(Unsubscribe)
	case UNSUBACK:
		d = new(Unsuback)
	case DISCONNECT:
		d = new(Disconnect)
	default:
		d = new(Auth)
	}
	return d, d.Decode(v, body)
}

// decodePublish turns a view into the Publish that encodes to the same bytes.
func decodePublish(v Version, flags byte, body []byte) (*Publish, error) {
	var p PublishView
	if err := p.Decode(v, flags, body); err != nil {
		return nil, err
	}
	return &Publish{Dup: p.Dup, QoS: p.QoS, Retain: p.Retain, PacketID: p.PacketID,
		Topic: string(p.Topic), Payload: bytes.Clone(p.Payload), Props: decodeProps(p.Props)}, nil
}

func decodeProps(r RawProperties) *Properties {
	if len(r) == 0 {
		return nil
	}
	p := new(Properties)
	r.Decode(p)
	return p
}

func appendPacket(dst []byte, v Version, packet any) ([]byte, error) {
	switch p := packet.(type) {
	case *Connect:
		return AppendConnect(dst, p.Version, p)
	case *Connack:
		return AppendConnack(dst, v, p)
	case *Publish:
		if err := p.Check(v); err != nil {
			return dst, err
		}
		return AppendPublish(dst, v, p), nil
	case *Ack:
		return AppendAck(dst, v, p.Type, p.PacketID, p.Code, decodeProps(p.Props)), nil
	case *Subscribe:
		return AppendSubscribe(dst, v, p)
	case *Suback:
		return AppendSuback(dst, v, p)
	case *Unsubscribe:
		return AppendUnsubscribe(dst, v, p)
	case *Unsuback:
		return AppendUnsuback(dst, v, p)
	case *ping:
		if p.Type == PINGREQ {
			return AppendPingreq(dst), nil
		}
		return AppendPingresp(dst), nil
	case *Disconnect:
		return AppendDisconnect(dst, v, p)
	case *Auth:
		return AppendAuth(dst, v, p)
	}
	return dst, errors.New("no packet")
}

// wantCode fails the test unless err is an *Error with the code.
func wantCode(t testing.TB, err error, code ReasonCode) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("error %v, want an *Error with code 0x%02X", err, byte(code))
	}
	if e.Code != code {
		t.Fatalf("error %v, want code 0x%02X", err, byte(code))
	}
	if e.Detail == "" {
		t.Fatal("error without a detail")
	}
}
