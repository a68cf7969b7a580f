package mqtt

import (
	"crypto/rand"
)

const idAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// generateClientID makes an identifier that every version and server takes
// [MQTT-3.1.3-5]: 23 letters and digits.
func generateClientID() string {
	b := make([]byte, 23)
	rand.Read(b)
	for i := range b {
		// The bias of 256 mod 62 does not matter: 20 bytes of it are plenty.
		b[i] = idAlphabet[int(b[i])%len(idAlphabet)]
	}
	copy(b, "mr0")
	return string(b)
}
