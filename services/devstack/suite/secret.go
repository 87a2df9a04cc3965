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

// secretFile writes 32 random bytes in base64 to path, readable by the owner only, unless the file
// exists. It returns the path.
func secretFile(path string) (string, error) {
	if _, err := os.Stat(path); err == nil {
		return path, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("secret: %w", err)
	}
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(base64.StdEncoding.EncodeToString(b)+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("secret: %w", err)
	}
	if err := os.Rename(temp, path); err != nil { // atomic
		return "", fmt.Errorf("secret: %w", err)
	}
	return path, nil
}

// Secret returns the content of a file with 32 random bytes in base64, which the first call creates.
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
