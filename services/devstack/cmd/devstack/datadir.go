package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// dataDir returns the data folder: the configured one, or .data in the working folder. Postgres does not
// run as root; if root starts the suite in a folder that other users cannot enter, such as a checkout in
// /root, the default is a folder in /var/tmp named by a hash of the working folder. `make clean` removes
// either.
func dataDir(configured string) (string, error) {
	if configured != "" {
		dir, err := filepath.Abs(configured)
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
	return ownFolder(filepath.Join("/var/tmp", "purser-"+hex.EncodeToString(sum[:6])))
}

// ownFolder creates a folder in a world-writable parent, or checks that the existing one belongs to root:
// another user can guess its name and could have created it, or a link, for root to write through.
func ownFolder(dir string) (string, error) {
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		return dir, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("data folder: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("data folder: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || owner.Uid != 0 || info.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("data folder %s does not belong to root: remove it, or set PURSER_DEV_DIR", dir)
	}
	return dir, nil
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
