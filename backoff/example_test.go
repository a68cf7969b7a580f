package backoff_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/millrace/mqtt/backoff"
)

// The bounds of the default policy; each delay is drawn between zero and its
// bound.
func ExampleExponential() {
	bounds := backoff.Exponential{NoJitter: true}
	for n := 1; n <= 9; n++ {
		d, _ := bounds.Delay(backoff.Attempt{N: n})
		fmt.Print(d, " ")
	}
	fmt.Println()
	// Output: 1s 2s 4s 8s 16s 32s 1m4s 2m0s 2m0s
}

// A policy of one's own gives up on what waiting cannot mend.
func ExamplePolicyFunc() {
	errBanned := errors.New("banned")
	usual := backoff.Exponential{Base: 500 * time.Millisecond, NoJitter: true}
	policy := backoff.PolicyFunc(func(a backoff.Attempt) (time.Duration, bool) {
		if errors.Is(a.Err, errBanned) || a.N > 10 {
			return 0, false
		}
		return usual.Delay(a)
	})

	fmt.Println(policy.Delay(backoff.Attempt{N: 2, Err: errors.New("connection reset")}))
	fmt.Println(policy.Delay(backoff.Attempt{N: 1, Err: errBanned}))
	// Output:
	// 1s true
	// 0s false
}
