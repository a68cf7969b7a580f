package main

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/examples/internal/broker"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStream(t *testing.T) {
	url, stop, err := broker.Or("")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, url, l, true) }()

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	base := "http://" + l.Addr().String()
	for path, want := range map[string]int{"/": http.StatusOK, "/events?filter=a/%23/b": http.StatusBadRequest} {
		resp, err := client.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s: %s, want %d", path, resp.Status, want)
		}
	}

	resp, err := client.Get(base + "/events?filter=plant/%2B/temp") // its header comes behind the SUBACK
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	conn, err := mqtt.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Publish(ctx, mqtt.Message{Topic: "plant/7/temp", Payload: []byte("21.5"), QoS: 1})
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if want := `data: {"text":"21.5","topic":"plant/7/temp"}` + "\n"; err != nil || line != want {
		t.Errorf("got %q, %v; want %q", line, err, want)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
