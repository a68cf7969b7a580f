package broker

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
)

// program is a broker that runs as a process of its own.
type program struct {
	name   string
	cmd    *exec.Cmd
	exited chan error // receives the cause of the end, once
}

// startProgram starts cmd, which does not outlive this process.
func startProgram(name string, cmd *exec.Cmd) (*program, error) {
	var log logTail
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan error, 1)
	go func() { // ends with the program; end waits for it
		exited <- fmt.Errorf("%s ended: %w\n%s", name, errors.Join(cmd.Wait()), log.String())
	}()
	return &program{name: name, cmd: cmd, exited: exited}, nil
}

// waitAccepting returns when every endpoint accepts, and ends the program when
// one does not.
func (p *program) waitAccepting(endpoints []endpoint) error {
	err := waitAccepting(endpoints, p.exited)
	if err != nil {
		_ = p.cmd.Process.Kill() // a no-op if that was the cause
	}
	return err
}

// end signals the program and waits until it has ended.
func (p *program) end(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("%w; %w", err, <-p.exited)
	}
	return within(endTimeout, p.name, func() error { <-p.exited; return nil })
}

// logTail keeps the end of a program's output for the error that needs it.
type logTail struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (l *logTail) Write(p []byte) (int, error) {
	const limit = 16 << 10
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	if extra := l.buf.Len() - limit; extra > 0 {
		l.buf.Next(extra)
	}
	return len(p), nil
}

// String returns what is kept.
func (l *logTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
