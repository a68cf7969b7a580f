package pkcs8_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/mqtt/transport"
	"github.com/millrace/mqtt/transport/pkcs8"
)

// The keys in testdata were made with OpenSSL 3, password "hunter2"; ec.pem is
// the key in the files that begin with "ec", unprotected.

func TestPassword(t *testing.T) {
	plain := block(t, "ec.pem")
	for _, name := range []string{"ec8.pem", "ecscrypt.pem", "ecold.pem", "ed8.pem", "rsa8.pem", "rsaold.pem"} {
		t.Run(name, func(t *testing.T) {
			password := []byte("hunter2")
			decrypt := pkcs8.Password(password)
			clear(password) // the caller may wipe it
			got, err := decrypt(block(t, name))
			if err != nil {
				t.Fatal(err)
			}
			key, err := x509.ParsePKCS8PrivateKey(got.Bytes)
			if err != nil || got.Type != "PRIVATE KEY" || len(got.Headers) != 0 {
				t.Fatalf("got a %q block: %v", got.Type, err)
			}
			if ec, ok := key.(*ecdsa.PrivateKey); ok {
				want, err := x509.ParsePKCS8PrivateKey(plain.Bytes)
				if err != nil || !ec.Equal(want) {
					t.Errorf("another key came out, %v", err)
				}
			}
		})
	}
}

func TestPasswordWrong(t *testing.T) {
	for _, name := range []string{"ec8.pem", "ecscrypt.pem", "ecold.pem", "ed8.pem", "rsa8.pem", "rsaold.pem"} {
		for _, password := range []string{"", "hunter3"} {
			got, err := pkcs8.Password([]byte(password))(block(t, name))
			if got != nil || !errors.Is(err, pkcs8.ErrDecrypt) {
				t.Errorf("%s with password %q: got %v, %v; want ErrDecrypt", name, password, got, err)
			}
		}
	}
}

// A key cut at any byte is an error, never a panic.
func TestPasswordDamaged(t *testing.T) {
	decrypt := pkcs8.Password([]byte("hunter2"))
	whole := block(t, "ec8.pem")
	for i := range whole.Bytes {
		if _, err := decrypt(&pem.Block{Type: whole.Type, Bytes: whole.Bytes[:i]}); !errors.Is(err, pkcs8.ErrDecrypt) {
			t.Errorf("cut at byte %d: got %v", i, err)
		}
	}
	old := block(t, "ecold.pem")
	for _, info := range []string{"x", "AES-256-CBC,", "AES-256-CBC,00", "NONE,00112233445566778899aabbccddeeff"} {
		old.Headers["DEK-Info"] = info
		if _, err := decrypt(old); !errors.Is(err, pkcs8.ErrDecrypt) {
			t.Errorf("DEK-Info %q: got %v", info, err)
		}
	}
	if _, err := decrypt(&pem.Block{Type: "ENCRYPTED PRIVATE KEY"}); !errors.Is(err, pkcs8.ErrDecrypt) {
		t.Errorf("empty: got %v", err)
	}
}

func TestLoadTLS(t *testing.T) {
	cert := certificateFor(t, block(t, "ec.pem"))
	files := transport.TLSFiles{Cert: cert, Key: "testdata/ec8.pem"}
	if _, err := transport.LoadTLS(files); !errors.Is(err, transport.ErrEncryptedKey) {
		t.Errorf("without a password: got %v, want ErrEncryptedKey", err)
	}
	files.DecryptKey = pkcs8.Password([]byte("wrong"))
	_, err := transport.LoadTLS(files)
	if bad, ok := errors.AsType[*transport.TLSFileError](err); !ok || bad.Use != "key" || !errors.Is(err, pkcs8.ErrDecrypt) {
		t.Errorf("wrong password: got %v", err)
	}
	files.DecryptKey = pkcs8.Password([]byte("hunter2"))
	if config, err := transport.LoadTLS(files); err != nil || len(config.Certificates) != 1 {
		t.Errorf("got %v, %v", config, err)
	}
}

func ExamplePassword() {
	_, err := transport.LoadTLS(transport.TLSFiles{
		Cert:       "testdata/ec.pem", // would be the certificate
		Key:        "testdata/ec8.pem",
		DecryptKey: pkcs8.Password([]byte("not the password")),
	})
	fmt.Println(errors.Is(err, pkcs8.ErrDecrypt))
	// Output: true
}

func block(t *testing.T, name string) *pem.Block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := pem.Decode(text)
	if b == nil {
		t.Fatalf("%s holds no PEM block", name)
	}
	return b
}

// certificateFor writes a self-signed certificate for the key.
func certificateFor(t *testing.T, b *pem.Block) string {
	t.Helper()
	parsed, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key := parsed.(*ecdsa.PrivateKey)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
