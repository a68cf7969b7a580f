package mqtt

import (
	"sync/atomic"
	"time"
)

// Stats are figures of a Conn.
type Stats struct {
	Links         uint64        // links made
	Published     uint64        // messages accepted
	Resent        uint64        // packets sent again on a later link
	Received      uint64        // messages received, redeliveries left out
	Redelivered   uint64        // redeliveries recognised and not delivered again
	Suspected     uint64        // messages that overlapping 3.x subscriptions may have doubled
	Unmatched     uint64        // messages without a subscription
	Oversize      uint64        // messages above our maximum packet size on 3.x, or with too many properties on 5.0
	Faulty        uint64        // messages that break the protocol and were dropped, see FaultyMessage
	DroppedOut    uint64        // messages dropped from the outbound queue
	IgnoredAcks   uint64        // acknowledgements of nothing
	Queued        int           // messages accepted and not resolved
	QueuedBytes   int           // and what they count for
	Inflight      int           // QoS 1 and 2 publishes in flight
	OldestUnacked time.Duration // age of the oldest QoS 1 or 2 message in flight
	AcksOwed      int           // inbound messages not acknowledged yet
	Held          int           // messages held for a Subscribe, see WithBacklogGrace, QoS 1 and 2 as part of AcksOwed; or in the store alone, see WithInbox
	LeftBehind    uint64        // calls of a net.Conn of a dialer that had not returned 250 ms after it was closed
	RTT           time.Duration // from the last PINGREQ to its answer; 0 before the first
}

// connStats are counters.
type connStats struct {
	received, unmatched, oversize, faulty, duplicates, suspected, links, leftBehind atomic.Uint64

	rtt atomic.Int64 // of the last ping
}

// outStats are counters of outbound, guarded by its lock.
type outStats struct {
	published, resent, dropped, ignoredAcks uint64
}
