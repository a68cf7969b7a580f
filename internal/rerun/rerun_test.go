package rerun_test

import (
	"os"
	"slices"
	"testing"

	"github.com/millrace/mqtt/internal/rerun"
)

func TestCommandGoesByTheEmulator(t *testing.T) {
	for env, before := range map[string][]string{"": nil, "/bin/qemu-arm -L /": {"/bin/qemu-arm", "-L", "/"}} {
		t.Setenv(rerun.Emulator, env)
		want := append(before, os.Args[0], "a", "b")
		if got := rerun.Command(t.Context(), "a", "b").Args; !slices.Equal(got, want) {
			t.Errorf("%s=%q: %q", rerun.Emulator, env, got)
		}
	}
}
