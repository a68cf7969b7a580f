// Package broker starts real MQTT brokers for tests: Mosquitto and mochi-mqtt as
// processes of their own, nats-server inside the test's process, and a cluster
// of three NATS nodes. Each gets loopback ports and directories that nobody else
// uses, is stopped by the test's cleanup, and can be stopped, killed and started
// again on the same addresses.
//
// The settings are those under which a broker keeps what it acknowledged (see
// each Options type), so that a lost message is the client's fault.
package broker
