package process

import (
	"runtime/debug"
	"testing"
)

func TestTheVersionOfAProgram(t *testing.T) {
	commit := debug.BuildSetting{Key: "vcs.revision", Value: "3e06c9a"}
	modified := debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	for name, tt := range map[string]struct {
		linked, commit, module string
		settings               []debug.BuildSetting
		want                   string
	}{
		"by the linker": {"v1.2.3", "", "(devel)", []debug.BuildSetting{commit}, "v1.2.3 3e06c9a go1.26.0"},
		"of the module": {"", "", "v1.2.2", nil, "v1.2.2 go1.26.0"},
		"of a tree with changes": {"", "", "(devel)", []debug.BuildSetting{commit, modified},
			"devel 3e06c9a modified go1.26.0"},
		"without any of the sources":    {"", "", "", nil, "devel go1.26.0"},
		"with the commit by the linker": {"v1.2.3", "3e06c9b", "(devel)", nil, "v1.2.3 3e06c9b go1.26.0"},
	} {
		t.Run(name, func(t *testing.T) {
			info := &debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: tt.module},
				Settings: tt.settings}
			if got := describe(tt.linked, tt.commit, info); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
