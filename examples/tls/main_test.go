package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/examples/internal/broker"
	"github.com/millrace/mqtt/transport"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), "", transport.TLSFiles{}, &out); err != nil {
		t.Fatal(err)
	}
	if want := "over TLS: sealed\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestUnknownAuthority(t *testing.T) {
	p, err := newPKI()
	if err != nil {
		t.Fatal(err)
	}
	url, stop, err := broker.TLS(p.server())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	_, err = mqtt.Connect(t.Context(), url, mqtt.WithTLS(&tls.Config{RootCAs: x509.NewCertPool()}))
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("got %v, want an x509.UnknownAuthorityError", err)
	}
}
