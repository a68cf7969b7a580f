// Package broker starts an MQTT server inside an example, so that each example
// runs with nothing installed. It is no part of what the examples show.
package broker
