package mqtt

// A message that has its packet identifier in the session store but ends unsent
// (expired, canceled, beyond what the server takes) leaves a gap in the order.
// A process that dies before the store has let go of it leaves it to the next one,
// which has to take it for sent, and sends it again where it stood: before
// messages that were accepted later. So these wait until the gap is durable,
// or what is sent again would stand out of its order [MQTT-4.6.0-1]. What makes
// room for newer messages leaves no gap: under overload there is always another
// drop that is not durable yet, and nothing would be sent.

// gap is where a message was passed over.
type gap struct {
	seq   uint64 // of the message
	batch uint64 // number of the batch that deletes it, or of one behind
}

// passOver takes r, which is to end unsent, out of the queue.
func (o *outbound) passOver(r *record) {
	if r.list == &o.numbered {
		o.keep.gaps = append(o.keep.gaps, gap{r.seq, o.keep.no})
	}
	o.unqueue(r)
}

// behindGap reports whether r has to wait for the deletion of an earlier message.
func (o *outbound) behindGap(r *record) bool {
	if o.keep == nil {
		return false
	}
	for _, g := range o.keep.gaps {
		if g.seq < r.seq {
			return true
		}
	}
	return false
}

// closeGaps forgets the gaps that batches up to number no made durable.
func (k *keeper) closeGaps(no uint64) {
	for len(k.gaps) > 0 && k.gaps[0].batch <= no {
		k.gaps = k.gaps[1:]
	}
	if len(k.gaps) == 0 {
		k.gaps = nil
	}
}
