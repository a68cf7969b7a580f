// Package backoff turns an attempt and its error into the delay before the
// next attempt.
//
// It is pure: nothing here sleeps, starts a goroutine or reads a clock. The
// caller counts consecutive failures, asks a [Policy] for the delay, and does
// the waiting, so a policy is tested with plain function calls.
//
// The zero [Exponential] is the default policy: 1 s, doubling to 120 s, with
// full jitter.
package backoff
