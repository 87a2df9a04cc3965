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
	return ownFolder(filepath.Join("/var/tmp", "purser-"+hex.EncodeToString(sum[:6])))
}

// ownFolder makes a folder where others may write, or makes sure that the one
// there is ours: anybody can guess its name and could have put it, or a link,
// there for root to write through.
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
		return "", fmt.Errorf("data folder %s is not root's own: remove it, or set PURSER_DEV_DIR", dir)
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
