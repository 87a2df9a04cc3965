package process

import (
	"runtime/debug"
	"strings"
)

// version is set by the linker: make builds with
// -ldflags='-X github.com/purserhq/purser/pkg/process.version=v1.2.3'.
var version string

// Version returns the program's version, the commit and the Go version, separated by
// blanks, such as "v1.2.3 3e06c9a8f1… go1.26.0". Without a version by the linker it is
// the module's, or "devel"; "modified" follows the commit if there were changes that are
// not in it. A program that was built outside of a Git repository, or in a folder that
// Git refuses to read, has no commit.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return describe(version, info)
}

func describe(linked string, info *debug.BuildInfo) string {
	first := linked
	if first == "" {
		first = info.Main.Version
	}
	if first == "" || first == "(devel)" {
		first = "devel"
	}
	parts := []string{first}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			parts = append(parts, s.Value)
		case s.Key == "vcs.modified" && s.Value == "true":
			parts = append(parts, "modified")
		}
	}
	if info.GoVersion != "" {
		parts = append(parts, info.GoVersion)
	}
	return strings.Join(parts, " ")
}
