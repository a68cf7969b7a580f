package broker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificates is a certificate authority of a test's own, with a server
// certificate for 127.0.0.1, ::1 and localhost and a client certificate. They
// are valid from 1999, because time in a testing/synctest bubble starts in 2000.
type Certificates struct {
	CAFile                       string // PEM
	ServerFile, ServerKeyFile    string // PEM; the key is PKCS#8
	ClientFile, ClientKeyFile    string // PEM; the key is PKCS#8
	Pool                         *x509.CertPool
	ServerKeyPair, ClientKeyPair tls.Certificate
}

// NewCertificates makes the certificates and writes them into dir.
func NewCertificates(dir string) (*Certificates, error) {
	ca, err := newIssuer()
	if err != nil {
		return nil, fmt.Errorf("make certificate authority: %w", err)
	}
	c := &Certificates{CAFile: filepath.Join(dir, "ca.pem"), Pool: x509.NewCertPool()}
	c.Pool.AddCert(ca.cert)
	if err := writePEM(c.CAFile, "CERTIFICATE", ca.cert.Raw); err != nil {
		return nil, err
	}
	c.ServerFile, c.ServerKeyFile = filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")
	if c.ServerKeyPair, err = ca.issue("127.0.0.1", x509.ExtKeyUsageServerAuth, c.ServerFile, c.ServerKeyFile); err != nil {
		return nil, fmt.Errorf("make server certificate: %w", err)
	}
	c.ClientFile, c.ClientKeyFile = filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")
	if c.ClientKeyPair, err = ca.issue("client", x509.ExtKeyUsageClientAuth, c.ClientFile, c.ClientKeyFile); err != nil {
		return nil, fmt.Errorf("make client certificate: %w", err)
	}
	return c, nil
}

// readServerConfig returns ServerConfig of the certificates that NewCertificates
// wrote into dir.
func readServerConfig(dir string, mutual bool) (*tls.Config, error) {
	c := &Certificates{Pool: x509.NewCertPool()}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	c.Pool.AppendCertsFromPEM(ca)
	c.ServerKeyPair, err = tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	return c.ServerConfig(mutual), err
}

// ClientConfig returns a new configuration that trusts the authority and, if
// mutual is set, presents the client certificate.
func (c *Certificates) ClientConfig(mutual bool) *tls.Config {
	config := &tls.Config{RootCAs: c.Pool}
	if mutual {
		config.Certificates = []tls.Certificate{c.ClientKeyPair}
	}
	return config
}

// ServerConfig returns a new configuration for a listener; if mutual is set it
// demands a certificate of the authority from clients.
func (c *Certificates) ServerConfig(mutual bool) *tls.Config {
	config := &tls.Config{Certificates: []tls.Certificate{c.ServerKeyPair}}
	if mutual {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, c.Pool
	}
	return config
}

type issuer struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newIssuer() (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := certTemplate(1, "millrace test authority")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &issuer{cert: cert, key: key, serial: 1}, err
}

func (i *issuer) issue(name string, usage x509.ExtKeyUsage, certFile, keyFile string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	i.serial++
	template := certTemplate(i.serial, name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	if usage == x509.ExtKeyUsageServerAuth {
		template.DNSNames = []string{"localhost"}
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, key.Public(), i.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := writePEM(certFile, "CERTIFICATE", der); err != nil {
		return tls.Certificate{}, err
	}
	if err := writePEM(keyFile, "PRIVATE KEY", keyDER); err != nil {
		return tls.Certificate{}, err
	}
	return tls.LoadX509KeyPair(certFile, keyFile)
}

func certTemplate(serial int64, name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

func writePEM(name, kind string, der []byte) error {
	return os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
