// Password: the decryption of one key block.

package pkcs8

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"

	"github.com/youmark/pkcs8"
)

// ErrDecrypt is returned for a key that does not open: the password is wrong,
// or the key is damaged or uses an unknown cipher. Encrypted data cannot tell
// these apart.
var ErrDecrypt = errors.New("pkcs8: cannot decrypt the private key: wrong password, damaged key, or unknown cipher")

// Password returns a function for [transport.TLSFiles].DecryptKey that opens a
// key with password, which is copied. It opens PKCS #8 (RFC 5958, "BEGIN
// ENCRYPTED PRIVATE KEY") and OpenSSL's older form with a DEK-Info header; the
// result is an unprotected PKCS #8 block. Its only error is [ErrDecrypt].
//
// The older form has no integrity check: about one wrong password in 256 gets
// past its padding and fails only as the key is parsed, which is ErrDecrypt
// too.
func Password(password []byte) func(protected *pem.Block) (*pem.Block, error) {
	password = slices.Clone(password)
	return func(protected *pem.Block) (*pem.Block, error) {
		key, err := open(protected, password)
		if err != nil {
			return nil, ErrDecrypt
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, ErrDecrypt
		}
		return &pem.Block{Type: "PRIVATE KEY", Bytes: der}, nil
	}
}

func open(block *pem.Block, password []byte) (key any, err error) {
	// The decoder panics on a key that was cut or has a bad IV: it gives
	// whatever the file holds to a block cipher, which accepts whole blocks.
	defer func() {
		if recover() != nil {
			key, err = nil, ErrDecrypt
		}
	}()
	if block.Headers["DEK-Info"] == "" {
		return pkcs8.ParsePKCS8PrivateKey(block.Bytes, password)
	}
	//lint:ignore SA1019 The form is weak, but keys in it exist and the user holds this one.
	der, err := x509.DecryptPEMBlock(block, password)
	if err != nil {
		return nil, err
	}
	switch block.Type {
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(der)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(der)
	default:
		return x509.ParsePKCS8PrivateKey(der)
	}
}
