// Command http-sse streams messages to browsers as server-sent events. Each
// request has a subscription of its own that ends with the request.
//
//	go run ./examples/http-sse -demo
//	curl -N 'localhost:8080/events?filter=plant/%23'
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/examples/internal/broker"
	"github.com/millrace/mqtt/examples/internal/program"
)

func main() {
	addr := flag.String("addr", "localhost:8080", "address to serve HTTP on")
	demo := flag.Bool("demo", false, "publish the time on plant/clock every second")
	program.Main("an MQTT server", func(ctx context.Context, url string, _ io.Writer) error {
		l, err := net.Listen("tcp", *addr)
		if err != nil {
			return err
		}
		log.Printf("open http://%s/", l.Addr())
		return run(ctx, url, l, *demo)
	})
}

// run serves until ctx ends.
func run(ctx context.Context, url string, l net.Listener, demo bool) error {
	url, stop, err := broker.Or(url)
	if err != nil {
		return err
	}
	defer stop()
	conn, err := mqtt.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close()
	if demo {
		go clock(conn) // ends with conn
	}

	s := &http.Server{
		Handler:     handler(conn),
		BaseContext: func(net.Listener) context.Context { return ctx }, // ends the streams too
	}
	stopped := context.AfterFunc(ctx, func() { s.Shutdown(context.WithoutCancel(ctx)) })
	defer stopped()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func handler(conn *mqtt.Conn) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) { stream(conn, w, r) })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, page) })
	return mux
}

// stream sends what matches the filter of the request until the browser leaves:
// then r.Context ends, and with it the subscription, here and at the server.
func stream(conn *mqtt.Conn, w http.ResponseWriter, r *http.Request) {
	sub, err := conn.Subscribe(r.Context(), r.FormValue("filter"), mqtt.WithUnsubscribeAtEnd())
	if errors.Is(err, mqtt.ErrInvalid) {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	out.Flush()
	for m := range sub.All() {
		data, _ := json.Marshal(map[string]string{"topic": m.Topic, "text": string(m.Payload)}) // strings never fail
		if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil {
			return
		}
		out.Flush()
	}
}

// clock publishes the time until conn ends.
func clock(conn *mqtt.Conn) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			conn.TryPublish(mqtt.Message{Topic: "plant/clock", Payload: mqtt.TextPayload(now.Format(time.TimeOnly))})
		case <-conn.Done():
			return
		}
	}
}

const page = `<!doctype html>
<title>millrace</title>
<pre id="log"></pre>
<script>
  new EventSource("/events?filter=plant/%23").onmessage = e => {
    const m = JSON.parse(e.data)
    document.getElementById("log").textContent += m.topic + ": " + m.text + "\n"
  }
</script>
`
