package codec

// skipper reads past a packet that is larger than the maximum and keeps only
// its head: the topic name and the packet identifier, which the receiver needs
// to acknowledge the message and to tell about it.
type skipper struct {
	frame Frame
	left  int // bytes of the body still to come
}

// start begins to skip the packet, whose body has the given size, at least 1.
func (s *skipper) start(frame Frame, body int) {
	frame.Oversize = true
	*s = skipper{frame: frame, left: body}
}

// take consumes as much of b as belongs to the packet and returns how much that was.
func (s *skipper) take(b []byte) int {
	b = b[:min(len(b), s.left)]
	for rest := b; len(rest) > 0; {
		n := min(s.headSize()-len(s.frame.Body), len(rest))
		if n <= 0 {
			break
		}
		s.frame.Body = append(s.frame.Body, rest[:n]...)
		rest = rest[n:]
	}
	s.left -= len(b)
	return len(b)
}

// headSize returns how many bytes of the body to keep, as far as is known:
// length and text of the topic name, at most 65,537 bytes, and in QoS 1 and 2
// the packet identifier.
func (s *skipper) headSize() int {
	if len(s.frame.Body) < 2 {
		return 2
	}
	n := fieldSize(s.frame.Body)
	if s.frame.Flags>>1&3 != 0 {
		n += 2
	}
	return n
}

// release lets go of the head of a packet that is through.
func (s *skipper) release() {
	if s.left == 0 {
		s.frame.Body = nil
	}
}
