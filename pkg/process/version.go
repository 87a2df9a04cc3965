package process

import (
	"runtime/debug"
	"strings"
)

// version and commit are set by the linker: make builds with
// -ldflags='-X github.com/purserhq/purser/pkg/process.version=v1.2.3 -X ….commit=3e06c9a8f1…'.
var version, commit string

// Version returns the program's version, the commit and the Go version, separated by
// blanks, such as "v1.2.3 3e06c9a8f1… go1.26.0". Without a version by the linker it is
// the module's, or "devel"; "modified" follows the commit if there were changes that are
// not in it. A program that was built by other means than make, outside of a Git
// repository or in a folder that the go command does not know as one, has no commit.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return describe(version, commit, info)
}

func describe(linked, commit string, info *debug.BuildInfo) string {
	first := linked
	if first == "" {
		first = info.Main.Version
	}
	if first == "" || first == "(devel)" {
		first = "devel"
	}
	modified := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	parts := []string{first}
	if commit != "" {
		parts = append(parts, commit)
	}
	if modified {
		parts = append(parts, "modified")
	}
	if info.GoVersion != "" {
		parts = append(parts, info.GoVersion)
	}
	return strings.Join(parts, " ")
}
