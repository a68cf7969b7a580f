//go:build unix

package mqtt_test

import "syscall"

// smallBuffer gives the sockets of a listener little room for what comes in.
func smallBuffer(c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16<<10)
	})
	if err != nil {
		return err
	}
	return failed
}
