package mqtt

import (
	"time"
)

// A link that probes (see supervisor.learn) carries nothing of the application for
// probeTime, then one SUBSCRIBE or UNSUBSCRIBE of one filter at a time, each after the
// answer to the one before, then one publish at a time. So the packet that is
// unanswered when the link dies is the only one that the server can have cut for.
// Acknowledgements and PUBRELs go at once: they are owed, and never given up.

const (
	// probeTime is how young a link dies for its packets to be probed on the next ones,
	// how long a link that probes is watched before the first packet is sent, and within
	// what time a link must die of a packet to have died of it.
	probeTime = time.Second
	// youngBeforeProbe is how many links in a row die young before the next one probes.
	youngBeforeProbe = 2
	// deathLimit is how many probing links in a row a packet may kill before it is
	// quarantined, and how many times a message may make us close the link.
	deathLimit = 3
)

// probeWait is how long a probing link waits for the answer to one packet before the
// next SUBSCRIBE or UNSUBSCRIBE goes without it. Two packets are unanswered then, so
// that the death of the link accuses neither.
const probeWait = 5 * time.Second

// probeVerdict is what the death of a link says about the packets that were unanswered.
type probeVerdict struct {
	probedPacket
	accused     bool // the probed packet killed the link, it seems
	cleared     bool // no packet did
	quarantined bool // the probed packet has killed deathLimit links
	topic, key  string
	id          uint16
}
