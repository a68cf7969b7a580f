// The two ways to weaken TLS, named so that a reviewer sees them.

package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
)

// InsecureSkipVerify returns a copy of config (nil for the zero config) that
// accepts every certificate: anyone on the path can read and change all
// traffic, credentials included. For tests only.
func InsecureSkipVerify(config *tls.Config) *tls.Config {
	config = cloneTLS(config, "")
	config.InsecureSkipVerify = true
	return config
}

// InsecureSkipHostnameCheck returns a copy of config (nil for the zero config)
// that accepts a certificate for any name as long as a trusted root vouches
// for it: any owner of such a certificate can pose as the server. With the
// system's roots that is everyone; use it only with a private CA in RootCAs.
func InsecureSkipHostnameCheck(config *tls.Config) *tls.Config {
	config = cloneTLS(config, "")
	next := config.VerifyConnection
	roots, now := config.RootCAs, config.Time
	// crypto/tls cannot skip the name alone: all of its check is turned off,
	// and the part that stays is made here.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("transport: the server sent no certificate")
		}
		options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		if now != nil {
			options.CurrentTime = now()
		}
		for _, cert := range state.PeerCertificates[1:] {
			options.Intermediates.AddCert(cert)
		}
		if _, err := state.PeerCertificates[0].Verify(options); err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
		}
		if next != nil {
			return next(state)
		}
		return nil
	}
	return config
}
