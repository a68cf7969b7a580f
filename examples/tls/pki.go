package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"
)

// pki is an authority that lives as long as the example, and what it signed.
type pki struct {
	ca                     *x509.Certificate
	roots                  *x509.CertPool
	serverCert, clientCert tls.Certificate
}

func newPKI() (*pki, error) {
	ca := template("millrace example CA")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	root, err := sign(ca, ca, nil)
	if err != nil {
		return nil, err
	}
	p := &pki{ca: root.Leaf, roots: x509.NewCertPool()}
	p.roots.AddCert(p.ca)

	server := template("localhost")
	server.DNSNames = []string{"localhost"}
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if p.serverCert, err = sign(server, p.ca, root.PrivateKey); err != nil {
		return nil, err
	}
	client := template("sensor-7")
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	p.clientCert, err = sign(client, p.ca, root.PrivateKey)
	return p, err
}

// server is a configuration that demands a client certificate.
func (p *pki) server() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{p.serverCert},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    p.roots,
	}
}

// client is one that trusts the server and has a certificate of its own.
func (p *pki) client() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{p.clientCert}, RootCAs: p.roots}
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

// sign makes a key for t and has the parent certify it; without a parent's key t
// certifies itself.
func sign(t, parent *x509.Certificate, parentKey any) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	if parentKey == nil {
		parentKey = key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, parentKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}
