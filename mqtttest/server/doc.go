// Package server is an in-memory network and an MQTT server for tests of programs that use MQTT.
package server
