// Command moduleproxy writes modules of a Git repository, as they are at their tags, into a folder that the go
// command can use as a module proxy (GOPROXY=file:///folder). It serves to try a release before it is published.
//
// Usage: moduleproxy REPOSITORY FOLDER VERSION MODULE…
//
// MODULE is a module's folder in the repository; its tag is MODULE/VERSION.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

func main() {
	if len(os.Args) < 5 {
		fmt.Fprintln(os.Stderr, "usage: moduleproxy REPOSITORY FOLDER VERSION MODULE…")
		os.Exit(2)
	}
	for _, dir := range os.Args[4:] {
		if err := add(os.Args[1], os.Args[2], os.Args[3], dir); err != nil {
			fmt.Fprintf(os.Stderr, "moduleproxy: %s: %v\n", dir, err)
			os.Exit(1)
		}
	}
}

// add writes the files of one module: VERSION.info, VERSION.mod and VERSION.zip, and the list of versions.
func add(repository, proxy, version, dir string) error {
	tag := dir + "/" + version
	show := exec.CommandContext(context.Background(), "git", "-C", repository, "show", tag+":"+dir+"/go.mod")
	gomod, err := show.Output()
	if err != nil {
		return fmt.Errorf("read go.mod at %s: %w", tag, err)
	}
	path := modfile.ModulePath(gomod)
	escaped, err := module.EscapePath(path)
	if err != nil {
		return err
	}
	to := filepath.Join(proxy, filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	info, err := json.Marshal(struct {
		Version string
		Time    time.Time
	}{version, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{version + ".info": info, version + ".mod": gomod,
		"list": []byte(version + "\n")} {
		if err := os.WriteFile(filepath.Join(to, name), b, 0o644); err != nil {
			return err
		}
	}
	f, err := os.Create(filepath.Join(to, version+".zip"))
	if err != nil {
		return err
	}
	if err := zip.CreateFromVCS(f, module.Version{Path: path, Version: version}, repository, tag, dir); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
