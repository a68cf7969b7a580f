//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package bolt

import "os"

// unlock has nothing to do: here a lock ends as the file is closed.
func unlock(*os.File) error { return nil }
