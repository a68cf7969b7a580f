package mqtt

import "log/slog"

// This file is about servers that send more than our Receive Maximum allows.

// maxReceive is the largest Receive Maximum, which leaving the property out means too
// (section 3.1.2.11.3): as many as there are packet identifiers, so that none is beyond.
const maxReceive = 65535

// receiveMaximum is what the next CONNECT to a server announces.
func (s *supervisor) receiveMaximum(server string) int {
	if s.overran[server] && !s.c.cfg.receiveMaxSet {
		return maxReceive
	}
	return s.c.cfg.receiveMax
}

// overrun notes that l ended because its server went beyond our Receive Maximum.
// The same would happen on the next link, and in a clean session the server begins
// anew each time, so that it may never come to an end.
func (s *supervisor) overrun(l *link, err error) {
	if !exceededMaximum(err) || s.overran[l.server] {
		return
	}
	s.overran[l.server] = true
	ev := ReceiveMaximumExceeded{Server: l.server, Announced: l.agreed.ourReceiveMaximum, Next: s.receiveMaximum(l.server)}
	if ev.Next != maxReceive {
		ev.Advice = "this server sends more than it was told to: leave WithReceiveMaximum out, and later links announce 65,535"
	}
	s.c.emit(ev)
	s.c.record(slog.LevelWarn, "receive maximum exceeded", "client", s.c.ClientID(), "server", l.server,
		"announced", ev.Announced, "next", ev.Next, "advice", ev.Advice)
}
