//go:build unix

package bolt

import (
	"io/fs"
	"os"
	"syscall"
)

// giveTo gives f to the owner and the group of another file.
func giveTo(f *os.File, other fs.FileInfo) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	has, want := mine.Sys().(*syscall.Stat_t), other.Sys().(*syscall.Stat_t)
	if has.Uid == want.Uid && has.Gid == want.Gid {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}
