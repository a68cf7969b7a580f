// Package match says which topic filters take which topics: one filter and one topic,
// two filters that overlap, and a trie of many filters. The syntax of filters and topics
// is checked in codec; all but Match take what passed those checks.
package match

import (
	"strings"

	"github.com/millrace/mqtt/codec"
)

// Match reports whether a subscription to filter takes messages published to topic, by
// the rules of MQTT 5.0 section 4.7, which the function of this name in package mqtt
// tells. A filter or a topic that is not valid matches nothing.
func Match(filter, topic string) bool {
	if codec.CheckTopicFilter(filter) != nil || codec.CheckTopicName(topic) != nil {
		return false
	}
	_, filter = SplitShared(filter)
	return Meet(filter, topic)
}

// SplitShared cuts the prefix that asks the broker for a kind of delivery from
// the filter proper, which is what the topics of messages are matched against:
// messages arrive under their plain topic. On the wire a filter keeps its
// prefix. Without a prefix, or with nothing behind it, rest is the whole filter.
func SplitShared(filter string) (prefix, rest string) {
	if filter == "" || filter[0] != '$' {
		return "", filter
	}
	n := 0
	if group, ok := strings.CutPrefix(filter, "$share/"); ok {
		n = strings.IndexByte(group, '/') + 1
		if n > 1 { // [MQTT-4.8.2-1]: the group's name is not empty
			n += len("$share/")
		} else {
			n = 0
		}
	} else if strings.HasPrefix(filter, "$queue/") {
		n = len("$queue/")
	} else if strings.HasPrefix(filter, "$exclusive/") {
		n = len("$exclusive/")
	}
	if n == len(filter) {
		return "", filter
	}
	return filter[:n], filter[n:]
}

// Overlap reports whether there is a topic that both filters match, so that
// a broker may send one message once for each.
func Overlap(a, b string) bool {
	_, a = SplitShared(a)
	_, b = SplitShared(b)
	return Meet(a, b)
}

// Meet reports whether some topic is matched by both a and b, two filters
// without prefix. A topic name is a filter that matches only itself.
func Meet(a, b string) bool {
	if leadsWithWildcard(a) && leadsWithDollar(b) || leadsWithWildcard(b) && leadsWithDollar(a) {
		return false // [MQTT-4.7.2-1]
	}
	if a == "/#" && b == "+" || a == "+" && b == "/#" {
		return false // only the empty string, which is no topic [MQTT-4.7.3-1]
	}
	for {
		x, restA, moreA := cutLevel(a)
		y, restB, moreB := cutLevel(b)
		switch {
		case x == "#" || y == "#":
			return true
		case x != y && x != "+" && y != "+":
			return false
		case moreA && moreB:
			a, b = restA, restB
		case moreA: // b ends here; "#" includes the level above it
			return restA == "#"
		case moreB:
			return restB == "#"
		default:
			return true
		}
	}
}

// HasWildcard reports whether filter has a "+" or a "#".
func HasWildcard(filter string) bool {
	for i := range len(filter) {
		if filter[i] == '+' || filter[i] == '#' {
			return true
		}
	}
	return false
}

// IsShared reports whether filter is a shared subscription (section 4.8).
func IsShared(filter string) bool { return strings.HasPrefix(filter, "$share/") }

func leadsWithWildcard(filter string) bool {
	return filter != "" && (filter[0] == '+' || filter[0] == '#')
}

func leadsWithDollar(s string) bool { return s != "" && s[0] == '$' }

// cutLevel returns the first level of s and what follows its slash. more is
// false at the last level: "a/" has a second, empty one.
func cutLevel(s string) (level, rest string, more bool) {
	for i := range len(s) {
		if s[i] == '/' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}
