//go:build !(darwin || dragonfly || freebsd || (linux && !android) || netbsd || openbsd)

package bolt

import (
	"os"
	"time"
)

// lock has nothing to do: here a file that another process has open is not
// replaced.
func lock(*os.File, time.Duration) error { return nil }

// unlock has nothing to do: here a lock ends as the file is closed.
func unlock(*os.File) error { return nil }
