// Command tls connects over TLS with a client certificate. Without -broker it
// makes the certificates itself, in memory; with it, it takes those of the
// system and of the files given.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/examples/internal/broker"
	"github.com/millrace/mqtt/examples/internal/program"
	"github.com/millrace/mqtt/transport"
)

func main() {
	var files transport.TLSFiles
	flag.StringVar(&files.CA, "ca", "", "PEM file with the roots to trust; empty means the system's")
	flag.StringVar(&files.Cert, "cert", "", "PEM file with the client's certificate")
	flag.StringVar(&files.Key, "key", "", "PEM file with its key")
	program.Main("an MQTT server that speaks TLS", func(ctx context.Context, url string, out io.Writer) error {
		return run(ctx, url, files, out)
	})
}

func run(ctx context.Context, url string, files transport.TLSFiles, w io.Writer) error {
	var config *tls.Config
	var err error
	if url != "" {
		config, err = transport.LoadTLS(files)
		if err != nil {
			return err
		}
	} else {
		p, err := newPKI()
		if err != nil {
			return err
		}
		var stop func()
		url, stop, err = broker.TLS(p.server())
		if err != nil {
			return err
		}
		defer stop()
		config = p.client()
	}

	conn, err := mqtt.Connect(ctx, url, mqtt.WithTLS(config))
	if err != nil {
		return err
	}
	defer conn.Close()
	sub, err := conn.Subscribe(ctx, "millrace/tls")
	if err != nil {
		return err
	}
	conn.Publish(ctx, mqtt.Message{Topic: "millrace/tls", Payload: []byte("sealed"), QoS: 1})
	select {
	case m := <-sub.C():
		fmt.Fprintf(w, "over TLS: %s\n", m.Payload)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return conn.Close()
}
