package broker

import "syscall"

// dieWithParent ends the program with the thread that started it: a test that
// panics or times out runs no cleanup. Go ends a thread before its process only
// for a goroutine locked to it, and tests here lock none.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
