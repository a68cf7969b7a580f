package transport

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"strings"
	"testing"
)

func TestLoadTLS(t *testing.T) {
	w := newWorld(t)
	ca := writePEM(t, "ca.pem", &pem.Block{Type: "CERTIFICATE", Bytes: w.pki.ca})
	cert := writePEM(t, "cert.pem", &pem.Block{Type: "CERTIFICATE", Bytes: w.pki.client.Certificate[0]})
	key := writePEM(t, "key.pem", keyBlock(t, w.pki.client))
	for name, files := range map[string]TLSFiles{
		"private CA":            {CA: ca, Cert: cert, Key: key},
		"beside the system's":   {CA: ca, SystemRoots: true, Cert: cert, Key: key},
		"without a client cert": {CA: ca},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := LoadTLS(files)
			if err != nil {
				t.Fatal(err)
			}
			before := w.shown
			d := Dialer{DialFunc: w.dial, TLS: config}
			if err := roundTrip(t.Context(), &d, mustParse(t, "mqtts://broker.test")); err != nil {
				t.Fatal(err)
			}
			if shown := w.shown - before; shown != len(config.Certificates) {
				t.Errorf("%d client certificates shown, want %d", shown, len(config.Certificates))
			}
		})
	}
	if config, err := LoadTLS(TLSFiles{}); err != nil || config.RootCAs != nil || config.InsecureSkipVerify {
		t.Errorf("no files: got %v, %v; want the zero config", config, err)
	}
}

func TestLoadTLSErrors(t *testing.T) {
	p := newPKI(t)
	cert := writePEM(t, "cert.pem", &pem.Block{Type: "CERTIFICATE", Bytes: p.client.Certificate[0]})
	key := writePEM(t, "key.pem", keyBlock(t, p.client))
	other := writePEM(t, "other.pem", keyBlock(t, p.server))
	broken := writePEM(t, "broken.pem", &pem.Block{Type: "CERTIFICATE", Bytes: []byte("hunter2")})
	pkcs8 := writePEM(t, "pkcs8.pem", &pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("hunter2")})
	old := writePEM(t, "old.pem", &pem.Block{Type: "EC PRIVATE KEY",
		Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("hunter2")})
	errDecrypt := errors.New("wrong password")
	failing := func(*pem.Block) (*pem.Block, error) { return nil, errDecrypt }

	tests := []struct {
		name     string
		files    TLSFiles
		use, say string
		is       error
	}{
		{"no such CA", TLSFiles{CA: "/nowhere/ca.pem"}, "CA", "/nowhere/ca.pem", fs.ErrNotExist},
		{"CA without a certificate", TLSFiles{CA: key}, "CA", "no certificate", nil},
		{"broken CA", TLSFiles{CA: broken}, "CA", "x509", nil},
		{"no such certificate", TLSFiles{Cert: "/nowhere/c", Key: key}, "certificate", "/nowhere/c", fs.ErrNotExist},
		{"no such key", TLSFiles{Cert: cert, Key: "/nowhere/k"}, "key", "/nowhere/k", fs.ErrNotExist},
		{"certificate alone", TLSFiles{Cert: cert}, "key", "needs its key", nil},
		{"key alone", TLSFiles{Key: key}, "certificate", "needs its certificate", nil},
		{"no pair", TLSFiles{Cert: cert, Key: other}, "certificate and key", "does not match", nil},
		{"no key in it", TLSFiles{Cert: cert, Key: cert}, "certificate and key", "private key", nil},
		{"protected", TLSFiles{Cert: cert, Key: pkcs8}, "key", "transport/pkcs8", ErrEncryptedKey},
		{"protected, old form", TLSFiles{Cert: cert, Key: old}, "key", "transport/pkcs8", ErrEncryptedKey},
		{"decryption fails", TLSFiles{Cert: cert, Key: pkcs8, DecryptKey: failing}, "key", "wrong password", errDecrypt},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := LoadTLS(tt.files)
			bad, ok := errors.AsType[*TLSFileError](err)
			if !ok || bad.Use != tt.use || !strings.Contains(err.Error(), tt.say) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Fatalf("got %v, want a TLSFileError about the %s that says %q", err, tt.use, tt.say)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the content: %v", err)
			}
		})
	}
}

func TestLoadTLSDecrypts(t *testing.T) {
	p := newPKI(t)
	cert := writePEM(t, "cert.pem", &pem.Block{Type: "CERTIFICATE", Bytes: p.client.Certificate[0]})
	key := writePEM(t, "key.pem", &pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("sealed")})
	config, err := LoadTLS(TLSFiles{Cert: cert, Key: key, DecryptKey: func(b *pem.Block) (*pem.Block, error) {
		if string(b.Bytes) != "sealed" {
			t.Errorf("got %q", b.Bytes)
		}
		return keyBlock(t, p.client), nil
	}})
	if err != nil || len(config.Certificates) != 1 {
		t.Errorf("got %v, %v", config, err)
	}
}

func TestInsecure(t *testing.T) {
	w := newWorld(t)
	w.handlers["wrong.test:8883"] = w.handlers["broker.test:8883"]
	refused := errors.New("refused by the user's own check")
	trusted := &tls.Config{RootCAs: w.pki.roots}
	tests := []struct {
		name   string
		config *tls.Config
		ok     bool
	}{
		{"safe", trusted, false},
		{"no verification", InsecureSkipVerify(nil), true},
		{"no verification, with settings", InsecureSkipVerify(trusted), true},
		{"no host name", InsecureSkipHostnameCheck(trusted), true},
		{"no host name, strangers", InsecureSkipHostnameCheck(&tls.Config{RootCAs: x509.NewCertPool()}), false},
		{"no host name, own check", InsecureSkipHostnameCheck(&tls.Config{RootCAs: w.pki.roots,
			VerifyConnection: func(tls.ConnectionState) error { return refused }}), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := Dialer{DialFunc: w.dial, TLS: tt.config}
			if err := roundTrip(t.Context(), &d, mustParse(t, "mqtts://wrong.test")); (err == nil) != tt.ok {
				t.Errorf("got %v, want success %v", err, tt.ok)
			}
		})
	}
	if trusted.InsecureSkipVerify || trusted.VerifyConnection != nil {
		t.Error("the given config was changed")
	}
}
