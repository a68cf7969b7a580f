// Package pkcs8 opens password-protected private keys for
// [transport.LoadTLS]. It is a module of its own because the standard library
// has no support for PKCS #8 encryption and the core does without further
// dependencies.
//
//	config, err := transport.LoadTLS(transport.TLSFiles{
//		CA: "ca.pem", Cert: "client.pem", Key: "client.key",
//		DecryptKey: pkcs8.Password(password),
//	})
package pkcs8
