package pgserver

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// BinEnv names the variable with the folder that holds postgres and initdb.
// When set, no other place is looked at.
const BinEnv = "PURSER_PG_BIN"

// installation is a folder with the server binaries of one major version.
type installation struct {
	dir   string
	major int
}

var versionNumber = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// findInstallation returns binaries of the wanted major version, or, when
// want is 0, the first found.
func findInstallation(want int) (installation, error) {
	var found []installation
	for _, dir := range candidates() {
		major, err := majorOf(dir)
		if err != nil {
			continue
		}
		if want == 0 || want == major {
			return installation{dir: dir, major: major}, nil
		}
		found = append(found, installation{dir: dir, major: major})
	}
	if len(found) > 0 {
		return installation{}, fmt.Errorf(
			"pgserver: %w: the data is of version %d, the server in %s is version %d; install version %d, or move "+
				"the data by pg_dump",
			ErrVersion, want, found[0].dir, found[0].major, want)
	}
	where := "`apt-get install postgresql` (Debian, Ubuntu) or `brew install postgresql` (macOS)"
	if dir := os.Getenv(BinEnv); dir != "" {
		return installation{}, fmt.Errorf("pgserver: %w: %s=%s has no working postgres and initdb; unset it or run %s",
			ErrNotInstalled, BinEnv, dir, where)
	}
	return installation{}, fmt.Errorf("pgserver: %w: run %s, or set %s to the folder with postgres and initdb",
		ErrNotInstalled, where, BinEnv)
}

// candidates lists the folders to look in, best first: what the caller says,
// what is on PATH, then the newest of what distributions install.
func candidates() []string {
	if dir := os.Getenv(BinEnv); dir != "" {
		return []string{dir}
	}
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		matches, _ := filepath.Glob(pattern)
		slices.SortFunc(matches, func(a, b string) int { return cmp.Compare(numberIn(b), numberIn(a)) })
		dirs = append(dirs, matches...)
	}
	//nolint:noctx // prints one line and ends
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, string(out[:max(0, len(out)-1)]))
	}
	return dirs
}

var number = regexp.MustCompile(`\d+`)

func numberIn(path string) int {
	n, _ := strconv.Atoi(number.FindString(path))
	return n
}

func majorOf(dir string) (int, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return 0, err
	}
	//nolint:noctx // prints one line and ends
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0, err
	}
	m := versionNumber.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("unknown version %q", out)
	}
	return strconv.Atoi(string(m[1]))
}

func (i installation) path(program string) string { return filepath.Join(i.dir, program) }
