package bolt

import "syscall"

// renameNew renames a file unless there is one with the new name.
func (c *config) renameNew(from, to string) error {
	f, err := syscall.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	t, err := syscall.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	return syscall.MoveFile(f, t)
}
