package broker

import (
	"os"
	"os/exec"
	"slices"
	"strings"
)

// RequireEnv names the environment variable that lists, by commas, the external
// programs whose absence fails a test instead of skipping it: mosquitto, nginx,
// aedes, ejabberd, rabbitmq.
const RequireEnv = "MILLRACE_REQUIRE"

// missing skips a test that needs an absent program, or fails it where RequireEnv
// lists the name.
func missing(tb TB, name string, err error) {
	tb.Helper()
	if slices.Contains(strings.Split(os.Getenv(RequireEnv), ","), name) {
		tb.Fatalf("%s lists %s, but: %v", RequireEnv, name, err)
	}
	tb.Skipf("skipped, no %s: %v", name, err)
}

// findProgram looks for a program in PATH, and in /usr/sbin, where Debian installs
// servers and a user's PATH may not lead.
func findProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	if sbin, sbinErr := exec.LookPath("/usr/sbin/" + name); sbinErr == nil {
		return sbin, nil
	}
	return "", err
}
