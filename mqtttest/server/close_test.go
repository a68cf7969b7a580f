package server_test

import (
	"bytes"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/mqtttest/server"
)

// Close waited for the expiry of a session whose connection it had ended itself:
// in real time, outside of a bubble, for hours.
func TestCloseDoesNotWaitForSessionsToExpire(t *testing.T) {
	var network server.Network
	srv := server.Start(&network, server.Config{})
	conn, err := network.Dial(t.Context(), "tcp", "server")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// CONNECT of 5.0 with a Session Expiry Interval of a day.
	if _, err := conn.Write(server.Hex("10 13 0004 4D515454 05 02 0000 05 1100015180 0001 63")); err != nil {
		t.Fatal(err)
	}
	ack := make([]byte, 2)
	if _, err := io.ReadFull(conn, ack); err != nil || !bytes.Equal(ack[:1], []byte{0x20}) {
		t.Fatalf("% X, %v", ack, err)
	}
	closed := make(chan struct{})
	go func() { srv.Close(); close(closed) }() // ends with the test, or fails it
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("Close does not return")
	}
}

// A hook that ended its goroutine, as t.FailNow does, left the connection open for good:
// the client hung, and Close too.
func TestHookThatEndsItsGoroutineEndsTheConnection(t *testing.T) {
	var network server.Network
	srv := server.Start(&network, server.Config{OnConnect: func(*codec.Connect) (codec.ReasonCode, *codec.Properties) {
		runtime.Goexit()
		return 0, nil
	}})
	conn, err := network.Dial(t.Context(), "tcp", "server")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(server.Hex("10 0D 0004 4D515454 04 02 0000 0001 63")); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if b, err := io.ReadAll(conn); err != nil || len(b) > 0 {
		t.Errorf("read % X, %v, want the end", b, err)
	}
	closed := make(chan struct{})
	go func() { srv.Close(); close(closed) }() // ends with the test, or fails it
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("Close does not return")
	}
}
