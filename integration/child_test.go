package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// A child is this test program run once more, as a process that a test can kill.
// What it is to do is in an environment variable, as the JSON of its task.

// serveChild does the task that the variable env holds, and ends the process. It
// returns in a process that has none.
func serveChild[T interface{ run() error }](env string, task T) {
	text := os.Getenv(env)
	if text == "" {
		return
	}
	err := json.Unmarshal([]byte(text), task)
	if err == nil {
		err = task.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// startChild starts a process that does task, and returns the first line that it
// writes.
func startChild(t *testing.T, env string, task any) (cmd *exec.Cmd, line string) {
	t.Helper()
	text, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), env+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the process said nothing: %v", err)
	}
	return cmd, line
}
