//go:build !linux

package broker

import "syscall"

// dieWithParent has no counterpart here: a test that panics leaves the program
// running.
func dieWithParent() *syscall.SysProcAttr { return nil }
