package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// dataDir is where the suite keeps its data: the folder asked for, or .data
// here. Postgres won't run as root, so when root starts the suite in a place
// that other users may not enter (a checkout in /root), it is a folder of
// this place's own in /var/tmp instead. `make clean` knows both.
func dataDir(asked string) (string, error) {
	if asked != "" {
		dir, err := filepath.Abs(asked)
		if err != nil {
			return "", fmt.Errorf("PURSER_DEV_DIR: %w", err)
		}
		return dir, nil
	}
	here, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("working folder: %w", err)
	}
	if os.Geteuid() != 0 || enterable(here) {
		return filepath.Join(here, ".data"), nil
	}
	sum := sha256.Sum256([]byte(here))
	return filepath.Join("/var/tmp", "purser-"+hex.EncodeToString(sum[:6])), nil
}

// enterable reports whether any user may enter dir and every folder above it.
func enterable(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
		dir = filepath.Dir(dir)
	}
}
