// TLS settings from PEM files.

package transport

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// TLSFiles names PEM files to make a config from. Empty fields are left out;
// Cert and Key go together.
type TLSFiles struct {
	// CA holds the certificates to trust instead of the system's roots.
	CA string
	// SystemRoots trusts the system's roots beside CA.
	SystemRoots bool
	// Cert holds the client's certificate, followed by intermediate ones.
	Cert string
	// Key holds the private key for Cert.
	Key string
	// DecryptKey, if not nil, is given the PEM block of a password-protected
	// key and returns it unprotected. The module
	// github.com/millrace/mqtt/transport/pkcs8 makes one from a password.
	DecryptKey func(protected *pem.Block) (*pem.Block, error)
}

// ErrEncryptedKey is in the chain when a key file is password-protected and
// TLSFiles.DecryptKey is nil.
var ErrEncryptedKey = errors.New("the private key is password-protected; " +
	"set DecryptKey with github.com/millrace/mqtt/transport/pkcs8")

// A TLSFileError says which file LoadTLS could not use. It never shows the
// content.
type TLSFileError struct {
	// Use is what the file is for: "CA", "certificate", "key", or "certificate
	// and key" when they are no pair.
	Use string
	// Path is the file's name; empty when it was not given.
	Path string
	// Err is the cause: an error of os (fs.ErrNotExist and the like) or x509,
	// ErrEncryptedKey, or a text.
	Err error
}

// Error names the file, its use and the cause.
func (e *TLSFileError) Error() string {
	return fmt.Sprintf("transport: TLS %s file %q: %v", e.Use, e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *TLSFileError) Unwrap() error { return e.Err }

// LoadTLS makes a client's config from files, which are read once. The error
// is a [*TLSFileError].
func LoadTLS(files TLSFiles) (*tls.Config, error) {
	config := &tls.Config{}
	if files.CA != "" {
		roots, err := loadRoots(files)
		if err != nil {
			return nil, &TLSFileError{"CA", files.CA, err}
		}
		config.RootCAs = roots
	}
	if files.Cert == "" && files.Key == "" {
		return config, nil
	}
	pair, err := loadPair(files)
	if err != nil {
		return nil, err
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

func loadRoots(files TLSFiles) (*x509.CertPool, error) {
	text, err := os.ReadFile(files.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if files.SystemRoots {
		if roots, err = x509.SystemCertPool(); err != nil {
			return nil, err
		}
	}
	found := 0
	for block := range blocks(text) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		// AppendCertsFromPEM would skip a broken certificate without a word.
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		roots.AddCert(cert)
		found++
	}
	if found == 0 {
		return nil, errors.New("no certificate in PEM form found")
	}
	return roots, nil
}

func loadPair(files TLSFiles) (tls.Certificate, error) {
	var none tls.Certificate
	cert, err := readNamed(files.Cert, "a key needs its certificate")
	if err != nil {
		return none, &TLSFileError{"certificate", files.Cert, err}
	}
	key, err := readNamed(files.Key, "a certificate needs its key")
	if err != nil {
		return none, &TLSFileError{"key", files.Key, err}
	}
	if key, err = unprotected(key, files.DecryptKey); err != nil {
		return none, &TLSFileError{"key", files.Key, err}
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return none, &TLSFileError{"certificate and key", files.Cert, err}
	}
	return pair, nil
}

func readNamed(path, missing string) ([]byte, error) {
	if path == "" {
		return nil, errors.New(missing)
	}
	return os.ReadFile(path)
}

// unprotected returns the text with the first protected key decrypted.
func unprotected(text []byte, decrypt func(*pem.Block) (*pem.Block, error)) ([]byte, error) {
	for block := range blocks(text) {
		if !isProtected(block) {
			continue
		}
		if decrypt == nil {
			return nil, ErrEncryptedKey
		}
		open, err := decrypt(block)
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(open), nil
	}
	return text, nil
}

// isProtected knows PKCS #8 (RFC 5958) and OpenSSL's older form (RFC 1421).
func isProtected(block *pem.Block) bool {
	return block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != ""
}

func blocks(text []byte) func(yield func(*pem.Block) bool) {
	return func(yield func(*pem.Block) bool) {
		for {
			block, rest := pem.Decode(text)
			if block == nil || !yield(block) {
				return
			}
			text = rest
		}
	}
}
