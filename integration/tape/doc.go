// Package tape records what passed through one link between a client and a
// broker, and shows its packets again: the judge between the two when they
// disagree about a message.
//
// Bytes are noted after they were read from the one side and before they are
// written to the other, so that every packet stands before its answer; the last
// ones before the end of a link may not have arrived.
package tape
