package mqtt

// Filter is one of the topic filters of [Conn.SubscribeMany]. Fields may be added: use
// field names. Filters compare with ==, and will in later versions.
type Filter struct {
	// Pattern is a topic filter, with wildcards and "$share/group/" as the
	// standard has them (sections 4.7 and 4.8.2).
	Pattern string
	// QoS is the maximum QoS at which the server may send.
	QoS QoS
}
