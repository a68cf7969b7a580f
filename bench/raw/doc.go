// Package raw speaks just enough MQTT to stand at either end of a measurement:
// a server that is never the bottleneck, where a broker would be, and a client
// that does the least a client can do, which is the limit others are compared
// with. Neither checks what it is sent: use them with each other and with
// clients known to be correct.
package raw
