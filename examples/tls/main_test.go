package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
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

// The flags: a broker of one's own, and certificates from files.
func TestRunWithFiles(t *testing.T) {
	p, err := newPKI()
	if err != nil {
		t.Fatal(err)
	}
	url, stop, err := broker.TLS(p.server())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	key, err := x509.MarshalPKCS8PrivateKey(p.clientCert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	files := transport.TLSFiles{
		CA:   pemFile(t, "CERTIFICATE", p.ca.Raw),
		Cert: pemFile(t, "CERTIFICATE", p.clientCert.Certificate[0]),
		Key:  pemFile(t, "PRIVATE KEY", key),
	}
	var out strings.Builder
	if err := run(t.Context(), url, files, &out); err != nil {
		t.Fatal(err)
	}
}

func pemFile(t *testing.T, kind string, der []byte) string {
	name := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
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
