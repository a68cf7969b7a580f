package server

import "slices"

// A group is the sessions of one shared subscription, section 4.8.2; a message goes to one of
// them, each in turn. Guarded by Server.mu.
type group struct {
	filter  string // with $share/NAME/
	match   string
	members []*session
	turn    int
}

func (s *Server) joinGroup(sess *session, sub *subscription) {
	at := slices.IndexFunc(s.groups, func(g *group) bool { return g.filter == sub.Filter })
	if at < 0 {
		at = len(s.groups)
		s.groups = append(s.groups, &group{filter: sub.Filter, match: sub.match})
	}
	sub.group = s.groups[at]
	sub.group.members = append(sub.group.members, sess)
}

func (s *Server) leaveGroup(sess *session, sub *subscription) {
	g := sub.group
	if g == nil {
		return
	}
	sub.group = nil
	g.members = slices.DeleteFunc(g.members, func(m *session) bool { return m == sess })
	if len(g.members) == 0 {
		s.groups = slices.DeleteFunc(s.groups, func(other *group) bool { return other == g })
	}
}

// next picks the member for a message: the next connected one, or else the next.
func (g *group) next() *session {
	for i := range g.members {
		at := (g.turn + i) % len(g.members)
		if g.members[at].client != nil {
			g.turn = at + 1
			return g.members[at]
		}
	}
	g.turn++
	return g.members[g.turn%len(g.members)]
}
