package suite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// roomForNew is what a new data folder takes with the demo's data, in MB; roomToGrow is what an
	// existing one needs to be worked on.
	roomForNew, roomToGrow = 250, 80
)

// checkRoom returns an error of one line when the disk of the data folder is too full for the embedded
// servers. It is called before any of them makes files, because several would fail, each in its own way.
func (b *Infrastructure) checkRoom() error {
	if b.opts.External.Database != "" && b.opts.External.Redis != "" && b.opts.External.Chain != "" {
		return nil
	}
	need := uint64(roomToGrow)
	_, err := os.Stat(filepath.Join(b.opts.Dir, "postgres", "data"))
	if errors.Is(err, fs.ErrNotExist) && b.opts.External.Database == "" {
		need = roomForNew
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(b.opts.Dir, &disk); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	free := disk.Bavail * uint64(disk.Bsize) >> 20
	if free < need {
		return fmt.Errorf("the disk of the data folder %s is full: %d MB are free, %d MB are needed; make room, or "+
			"set PURSER_DEV_DIR to a folder on another disk", b.opts.Dir, free, need)
	}
	return nil
}
