// Topic names and topic filters: what matches what. Their syntax is checked in
// codec; the functions here take what passed those checks.

package mqtt

import (
	"strings"

	"github.com/millrace/mqtt/codec"
)

// Match reports whether a subscription to filter takes messages published to
// topic, by the rules of MQTT 5.0 section 4.7 (the same in 3.1 and 3.1.1):
//
//   - "+" stands for exactly one level, which may be empty;
//   - "#" stands for any number of levels, none included: "sport/#" takes "sport";
//   - a topic that begins with "$" is never taken by a filter that begins with
//     a wildcard;
//   - everything else is compared byte by byte: case counts, nothing is trimmed
//     and "/finance" has two levels, the first of them empty.
//
// The prefixes "$share/group/" (section 4.8), "$queue/" and "$exclusive/" are no
// part of what a filter takes and are left out first, as brokers do. A filter
// or a topic that is not valid matches nothing.
func Match(filter, topic string) bool {
	if codec.CheckTopicFilter(filter) != nil || codec.CheckTopicName(topic) != nil {
		return false
	}
	_, filter = splitShared(filter)
	return meet(filter, topic)
}

// splitShared cuts the prefix that asks the broker for a kind of delivery from
// the filter proper, which is what the topics of messages are matched against:
// messages arrive under their plain topic. On the wire a filter keeps its
// prefix. Without a prefix, or with nothing behind it, rest is the whole filter.
func splitShared(filter string) (prefix, rest string) {
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

// overlaps reports whether there is a topic that both filters match, so that
// a broker may send one message once for each.
func overlaps(a, b string) bool {
	_, a = splitShared(a)
	_, b = splitShared(b)
	return meet(a, b)
}

// meet reports whether some topic is matched by both a and b, two filters
// without prefix. A topic name is a filter that matches only itself.
func meet(a, b string) bool {
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
