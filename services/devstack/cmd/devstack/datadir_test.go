package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAFolderThatAnotherUserCanControlIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		// Only root uses such a folder, and only root can make the others here.
		if _, err := ownFolder(filepath.Join(t.TempDir(), "new")); err != nil {
			t.Fatal(err)
		}
		return
	}
	base := t.TempDir()
	for name, make := range map[string]func(path string) error{
		"a link to another folder": func(path string) error { return os.Symlink(base, path) },
		"a folder of another user": func(path string) error {
			if err := os.Mkdir(path, 0o755); err != nil {
				return err
			}
			return os.Chown(path, 65534, 65534)
		},
		"a folder that others may write": func(path string) error {
			if err := os.Mkdir(path, 0o755); err != nil {
				return err
			}
			return os.Chmod(path, 0o777)
		},
		"a file": func(path string) error { return os.WriteFile(path, nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(base, name)
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			if dir, err := ownFolder(path); err == nil {
				t.Errorf("%s was accepted", dir)
			}
		})
	}
	path := filepath.Join(base, "new")
	for range 2 {
		if dir, err := ownFolder(path); err != nil || dir != path {
			t.Errorf("our own: %q, %v", dir, err)
		}
	}
}
