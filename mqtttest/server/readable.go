package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// readable puts what ended a step of a script into the words of the script.
func readable(err error, waited time.Duration) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("timeout after %v", waited)
	case errors.Is(err, io.EOF):
		return errors.New("the client closed the connection")
	case errors.Is(err, syscall.ECONNRESET):
		return errors.New("the connection was cut")
	}
	return err
}
