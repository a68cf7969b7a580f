//go:build !plan9

// errno: an error of the system, by its type.

package transport

import (
	"errors"
	"syscall"
)

// isErrno reports whether the system failed a call on the connection.
func isErrno(err error) bool {
	_, ok := errors.AsType[syscall.Errno](err)
	return ok
}
