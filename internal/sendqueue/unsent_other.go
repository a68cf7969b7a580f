//go:build !linux && !darwin

package sendqueue

import "syscall"

func limitUnsent(syscall.RawConn) {}
