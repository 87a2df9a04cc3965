package suite

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// secretFile makes sure that path holds 32 random bytes in base64, readable
// by its owner alone, and returns the path. What is there stays.
func secretFile(path string) (string, error) {
	if _, err := os.Stat(path); err == nil {
		return path, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("secret: %w", err)
	}
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	fresh := path + ".new"
	if err := os.WriteFile(fresh, []byte(base64.StdEncoding.EncodeToString(b)+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("secret: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil { // whole or not at all
		return "", fmt.Errorf("secret: %w", err)
	}
	return path, nil
}

// Secret returns the content of a file of random characters in the data
// folder, made on first use.
func Secret(path string) (string, error) {
	path, err := secretFile(path)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("secret: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
