package bolt_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// children are what this test binary does as a process of its own, by the value
// of childEnv.
var children = map[string]func(){
	"hold":    childHold,
	"commit":  childCommit,
	"limit":   childLimit,
	"rewrite": childRewrite,
}

const childEnv = "MILLRACE_BOLT_CHILD"

func TestMain(m *testing.M) {
	if run := children[os.Getenv(childEnv)]; run != nil {
		run()
		return
	}
	goleak.VerifyTestMain(m)
}
