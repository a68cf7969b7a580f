package mqtt

import "github.com/millrace/mqtt/internal/match"

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
func Match(filter, topic string) bool { return match.Match(filter, topic) }
