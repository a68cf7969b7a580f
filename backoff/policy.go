// The question a policy answers and the interface it answers through.

package backoff

import "time"

// An Attempt describes the failure a delay is wanted for.
type Attempt struct {
	// N counts consecutive failures, this one included: 1 or more. The caller
	// starts again at 1 once a link has been up long enough to count as
	// stable; an accepted connection alone does not reset it.
	N int
	// Err is what ended the attempt or the link. It is never nil when the
	// library asks.
	Err error
	// Up is how long the last link was up; zero when the attempt never
	// produced one.
	Up time.Duration
	// Server is the URL the failure belongs to, with its secrets redacted.
	Server string
}

// A Policy says how long to wait after a failed attempt. It must be safe for
// concurrent use when connections share it. No method will be added to it; fields may be
// added to [Attempt].
type Policy interface {
	// Delay returns the time to wait before the next attempt, zero or more, or
	// ok = false to stop trying; d means nothing then. It must not block.
	Delay(a Attempt) (d time.Duration, ok bool)
}

// PolicyFunc makes a function a [Policy].
type PolicyFunc func(a Attempt) (d time.Duration, ok bool)

// Delay calls f.
func (f PolicyFunc) Delay(a Attempt) (d time.Duration, ok bool) { return f(a) }
