// Package integration holds the tests of millrace against real brokers:
// Mosquitto, mochi and nats-server, which package broker starts. It has no API.
package integration
