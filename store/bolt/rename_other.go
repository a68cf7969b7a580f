//go:build !(darwin || dragonfly || freebsd || (linux && !android) || netbsd || openbsd || windows)

package bolt

import "errors"

// renameNew has no way to keep from replacing what another process just made.
func (c *config) renameNew(from, to string) error {
	return errors.New("making a store takes a file system with hard links")
}
