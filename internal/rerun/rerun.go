// Package rerun starts the program of a test once more, as a process of its own.
package rerun

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Emulator is the environment variable that says how a program of the test's
// architecture is started where the system cannot start it by itself: a command and
// its first arguments, apart by spaces, as for the -exec flag of go test.
const Emulator = "MILLRACE_EXEC"

// Command returns the command that starts the test's program with args.
func Command(ctx context.Context, args ...string) *exec.Cmd {
	argv := slices.Concat(strings.Fields(os.Getenv(Emulator)), []string{os.Args[0]}, args)
	return exec.CommandContext(ctx, argv[0], argv[1:]...)
}
