package mqtt

// generation names an inbound QoS 1 or 2 message within the life of a Conn: the ledger
// counts up with every message, and the packet identifier, which the server uses again,
// does not tell one from the next. It stands in the high bits of Message.ref. 0 is no
// message. It begins anew after 2^28 messages, so that only two of which one is at most
// half of that older can be compared.
type generation uint32

const (
	generationBits = 32 - refShift
	maxGeneration  = 1<<generationBits - 1
)

// next returns the generation after g, 0 when the count begins anew.
func (g generation) next() generation { return (g + 1) & maxGeneration }

// before reports whether g is older than o.
func (g generation) before(o generation) bool { return (g-o)&maxGeneration > maxGeneration/2 }

// compare is before for a sort.
func (g generation) compare(o generation) int {
	switch {
	case g == o:
		return 0
	case g.before(o):
		return -1
	}
	return 1
}

// generation returns that of m, 0 for a message of QoS 0.
func (m *Message) generation() generation { return generation(m.ref >> refShift) }

// setGeneration makes g that of m, which has none.
func (m *Message) setGeneration(g generation) { m.ref |= uint32(g) << refShift }
