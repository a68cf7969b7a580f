package tape

// Follow walks through what a broker sent a client, by link, beside what the
// client delivered for the first time, and returns how much of that the tapes
// explain. On every link the client got a beginning of what was sent, cut off
// anywhere, and of that it delivers, in order, what it did not have. missed is
// what came on the last link, which nothing cut, and was not delivered.
func Follow[M comparable](sent [][]M, delivered []M) (explained, missed int) {
	had := map[M]bool{}
	for link, messages := range sent {
		cut := false
		for _, m := range messages {
			switch {
			case cut || had[m]:
			case explained < len(delivered) && delivered[explained] == m:
				had[m] = true
				explained++
			case link < len(sent)-1:
				cut = true
			default:
				missed++
			}
		}
	}
	return explained, missed
}
