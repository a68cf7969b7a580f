package mqtt

import (
	"errors"
	"slices"
	"time"

	"github.com/millrace/mqtt/codec"
)

// grant is what the server has said of the filters of a subscription, and the place of the
// subscription in the routes. It is part of the Subscription; routes.mu guards it.
type grant struct {
	results    []SubscribeResult
	open       []bool        // by filter: no result yet
	unanswered int           // how many are open
	settled    bool          // every filter has its first result, and Subscribe knows
	routed     bool          // its filters are in the routes
	draining   bool          // by Drain: it takes what the server still sends
	waited     time.Duration // for the first results, over the links that have ended
	waiting    time.Time     // since when on the current link; zero while offline
	left       uint64        // how many had joined when it left, or lost a filter
	refused    error         // why the UNSUBSCRIBE of a Drain was given up
}

// newGrant returns the grant of filters for which nothing has been asked: each has
// the QoS that it wants.
func newGrant(filters []Filter) grant {
	g := grant{
		results:    make([]SubscribeResult, len(filters)),
		open:       make([]bool, len(filters)),
		unanswered: len(filters),
	}
	for i, f := range filters {
		g.results[i] = SubscribeResult{Filter: f.Pattern, Granted: f.QoS}
		g.open[i] = true
	}
	return g
}

// setResultLocked records the result of filter, and reports whether it was the last
// that was open.
func (g *grant) setResultLocked(filter string, code codec.ReasonCode, err error) (last bool) {
	for i := range g.results {
		res := &g.results[i]
		if res.Filter != filter {
			continue
		}
		res.Code, res.Err = code, err
		if err == nil {
			res.Granted = QoS(code)
		}
		if g.open[i] {
			g.open[i] = false
			g.unanswered--
			return g.unanswered == 0
		}
	}
	return false
}

// awaitsLocked reports whether the server has not answered for filter.
func (g *grant) awaitsLocked(filter string) bool {
	for i := range g.results {
		if g.results[i].Filter == filter {
			return g.open[i]
		}
	}
	return false
}

// grantedLocked returns the QoS granted for the first filter, 2 when there is none.
func (g *grant) grantedLocked() QoS {
	if len(g.results) == 0 {
		return 2
	}
	return g.results[0].Granted
}

// refusalLocked returns the error of a subscription whose filters were refused: all of
// them, or any unless partial is set. It is nil when it was not refused. A filter that the
// application took from it meanwhile is missing, not refused.
func (g *grant) refusalLocked(partial bool) error {
	refused, missing := 0, 0
	for _, r := range g.results {
		switch {
		case errors.Is(r.Err, ErrUnsubscribed):
			missing++
		case r.Err != nil:
			refused++
		}
	}
	if refused == 0 || partial && refused+missing < len(g.results) {
		return nil
	}
	return g.errorLocked()
}

// errorLocked returns the results as an error.
func (g *grant) errorLocked() error { return &SubscribeError{Results: slices.Clone(g.results)} }

// beginWaitLocked starts the clock of the wait for the first results: a link is up.
func (g *grant) beginWaitLocked(now time.Time) {
	if !g.settled {
		g.waiting = now
	}
}

// endWaitLocked stops that clock, and adds up what it showed.
func (g *grant) endWaitLocked(now time.Time) {
	if !g.waiting.IsZero() {
		g.waited += now.Sub(g.waiting)
		g.waiting = time.Time{}
	}
}

// waitedLocked returns how long a link was up while results were open.
func (g *grant) waitedLocked(now time.Time) time.Duration {
	if g.waiting.IsZero() {
		return g.waited
	}
	return g.waited + now.Sub(g.waiting)
}
