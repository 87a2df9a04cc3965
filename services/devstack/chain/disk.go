package chain

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// minFreeBytes is the free space below which the chain writes no further block. go-ethereum ends the process
// when a write fails, so a full disk must be detected before.
const minFreeBytes = 64 << 20

// freeSpace returns the bytes that an unprivileged user may still write on dir's file system.
func freeSpace(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("chain: free space of %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// checkSpace returns an error if the disk is nearly full.
func (o Options) checkSpace() error {
	free, err := o.freeSpace(o.Dir)
	if err != nil {
		return err
	}
	if free < minFreeBytes {
		return fmt.Errorf("chain: the disk of %s is nearly full: %d MB free, at least %d MB needed", o.Dir, free>>20,
			minFreeBytes>>20)
	}
	return nil
}
