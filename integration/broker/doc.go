// Package broker starts real MQTT brokers for tests: Mosquitto, mochi-mqtt, Aedes,
// ejabberd and RabbitMQ as processes of their own, nats-server inside the test's
// process, a cluster of three NATS nodes, and nginx as a TCP proxy in front of a
// broker.
// Each gets loopback ports and directories of its own, is stopped by
// the test's cleanup, and can be stopped, killed and started again on the same
// addresses.
//
// The settings are those under which a broker keeps what it acknowledged (see
// each Options type), so that a lost message is the client's fault.
package broker
