package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"
)

// process is the child in one role, killed and started any number of times. Its
// methods are for one goroutine, but for latest.
type process struct {
	settings settings
	count    atomic.Int64 // processes started

	cmd   *exec.Cmd
	input io.WriteCloser // the child is told to leave by a line, to finish by its end
	ended chan struct{}  // closed when the child has ended
	err   error          // how it ended

	killed   int          // processes that were killed as a fault
	left     int          // processes that left when told to
	graceful map[int]bool // those of them that ended gracefully, by number
	wills    *willWatch
}

// latest returns the number of the newest process.
func (p *process) latest() int { return int(p.count.Load()) }

// logPath names what the newest process wrote on its error output.
func (p *process) logPath() string {
	return filepath.Join(p.settings.Dir, fmt.Sprintf("%s-%d.log", p.settings.Role, p.settings.Incarnation))
}

// start starts the next process.
func (p *process) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p.settings.Incarnation = p.latest() + 1
	text, err := json.Marshal(&p.settings)
	if err != nil {
		return err
	}
	log, err := os.Create(p.logPath())
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = log
	if p.input, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.count.Add(1)
	ended := make(chan struct{})
	p.cmd, p.ended = cmd, ended
	go func() { // ends with the child; kill and stop wait for it
		p.err = cmd.Wait()
		close(ended)
	}()
	return nil
}

// kill ends the process by SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error says that it has ended
	<-p.ended
}

// stop ends the process in the orderly way.
func (p *process) stop() error {
	p.input.Close()
	timer := time.NewTimer(2 * patience)
	defer timer.Stop()
	select {
	case <-p.ended:
		return p.failure()
	case <-timer.C:
		p.kill()
		return fmt.Errorf("the %s did not end within %v, see %s", p.settings.Role, 2*patience, p.logPath())
	}
}

// failure says how a process ended that was not killed.
func (p *process) failure() error {
	if p.err == nil {
		return nil
	}
	text, err := os.ReadFile(p.logPath())
	if n := len(text) - 2000; n > 0 {
		text = text[n:]
	}
	return fmt.Errorf("%s %d: %w\n%s", p.settings.Role, p.settings.Incarnation, errors.Join(p.err, err), text)
}
