package server_test

import (
	"context"
	"fmt"
	"io"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// A client is anything that dials; this one is a few raw bytes.
func Example() {
	var network server.Network
	srv := server.Start(&network, server.Config{})
	defer srv.Close()

	conn, err := network.Dial(context.Background(), "tcp", "localhost:1883")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	conn.Write(server.Hex("10 0D 0004 4D515454 04 02 003C 0001 61")) // CONNECT of client "a"
	conn.Write(server.Hex("32 06 0001 74 0001 78"))                  // PUBLISH "x" to "t", QoS 1
	answer := make([]byte, 8)
	_, err = io.ReadFull(conn, answer)
	fmt.Printf("% X %v\n", answer, err)
	for _, r := range srv.Received() {
		fmt.Printf("%s: %s = %s\n", r.ClientID, r.Topic, r.Payload)
	}
	fmt.Println(len(srv.Violations()), "violations")
	// Output:
	// 20 02 00 00 40 02 00 01 <nil>
	// a: t = x
	// 0 violations
}

// Faults belong to a connection, seen from outside.
func ExampleLink() {
	client, far := server.Pipe(0)
	client.Link().CutAfter(server.ToServer, 5)
	n, err := client.Write([]byte("hello, world"))
	fmt.Println(n, err)
	got, err := io.ReadAll(far)
	fmt.Printf("%s: %v\n", got, err)
	// Output:
	// 5 write mem client->server: write: connection reset by peer
	// hello: read mem server->client: read: connection reset by peer
}

// Acknowledgements can be kept back and released in any order.
func ExampleServer_Release() {
	var network server.Network
	srv := server.Start(&network, server.Config{})
	defer srv.Close()
	srv.Hold(codec.PUBACK)

	conn, err := network.Dial(context.Background(), "tcp", "localhost:1883")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	conn.Write(server.Hex("10 0D 0004 4D515454 04 02 003C 0001 61  32 06 0001 74 0001 78  32 06 0001 74 0002 79"))
	_ = srv.Wait(context.Background(), func() bool { return srv.Held() == 2 })
	srv.Release(func(acks []server.Ack) []server.Ack {
		fmt.Println(acks)
		return []server.Ack{acks[1], acks[0]}
	})
	answer := make([]byte, 12)
	_, err = io.ReadFull(conn, answer)
	fmt.Printf("% X %v\n", answer, err)
	// Output:
	// [PUBACK 1 PUBACK 2]
	// 20 02 00 00 40 02 00 02 40 02 00 01 <nil>
}
