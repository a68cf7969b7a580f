package codec_test

import (
	"bytes"
	"fmt"
	"io"

	"github.com/millrace/mqtt/codec"
)

func ExampleAppendPublish() {
	p := &codec.Publish{QoS: 1, PacketID: 10, Topic: "plant/7/temp", Payload: []byte("21.5")}
	if err := p.Check(codec.V5); err != nil {
		fmt.Println(err)
		return
	}
	buf := codec.AppendPublish(nil, codec.V5, p)
	fmt.Printf("% x\n", buf)
	// Output: 32 15 00 0c 70 6c 61 6e 74 2f 37 2f 74 65 6d 70 00 0a 00 32 31 2e 35
}

func ExampleFramer() {
	var stream []byte
	stream = codec.AppendPublish(stream, codec.V311, &codec.Publish{Topic: "a", Payload: []byte("one")})
	stream = codec.AppendPublish(stream, codec.V311, &codec.Publish{Topic: "b", Payload: []byte("two")})
	stream = codec.AppendPingresp(stream)

	r := bytes.NewReader(stream)
	framer := codec.NewFramer(codec.V311, 64<<20)
	for {
		f, ok, err := framer.Next()
		if err != nil {
			fmt.Println(err)
			return
		}
		if !ok {
			if n, err := framer.Fill(r); n == 0 && err == io.EOF {
				return
			}
			continue
		}
		if f.Type != codec.PUBLISH {
			fmt.Println(f.Type)
			continue
		}
		var p codec.PublishView
		if err := p.Decode(codec.V311, f.Flags, f.Body); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s %s: %s\n", f.Type, p.Topic, p.Payload)
	}
	// Output:
	// PUBLISH a: one
	// PUBLISH b: two
	// PINGRESP
}

func ExampleAppendConnect() {
	var props codec.Properties
	props.SessionExpiry = 3600
	props.Present = props.Present.With(codec.PropSessionExpiryInterval)
	buf, err := codec.AppendConnect(nil, codec.V5, &codec.Connect{
		Version: codec.V5, ClientID: "c1", KeepAlive: 60, Props: &props,
	})
	fmt.Printf("% x %v\n", buf, err)
	// Output: 10 14 00 04 4d 51 54 54 05 00 00 3c 05 11 00 00 0e 10 00 02 63 31 <nil>
}

func ExampleConnack_Decode() {
	var p codec.Connack
	err := p.Decode(codec.V5, []byte{0x00, 0x87, 0x00})
	fmt.Println(p.Code, p.Code.IsError(), err)
	err = p.Decode(codec.V5, []byte{0x02, 0x00, 0x00})
	fmt.Println(err)
	// Output:
	// Not authorized true <nil>
	// mqtt: CONNACK: byte 0: reserved connect acknowledge flags set (0x81 Malformed Packet)
}

func ExampleCheckTopicFilter() {
	fmt.Println(codec.CheckTopicFilter("plant/+/temp"))
	fmt.Println(codec.CheckTopicFilter("plant/#/temp"))
	fmt.Println(codec.CheckTopicFilter("$share/workers"))
	// Output:
	// <nil>
	// mqtt: byte 6: "#" is not the last character (0x8F Topic Filter invalid)
	// mqtt: byte 14: shared subscription without a filter (0x8F Topic Filter invalid)
}

func ExampleRawProperties() {
	var p codec.PublishView
	body := []byte("\x00\x01t\x0e\x0b\x07\x0b\x09\x26\x00\x01k\x00\x01v\x03\x00\x00hi")
	if err := p.Decode(codec.V5, 0, body); err != nil {
		fmt.Println(err)
		return
	}
	for id := range p.Props.SubscriptionIDs() {
		fmt.Println("subscription", id)
	}
	for k, v := range p.Props.UserProperties() {
		fmt.Printf("%s=%s\n", k, v)
	}
	// Output:
	// subscription 7
	// subscription 9
	// k=v
}
