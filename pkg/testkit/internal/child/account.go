package child

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// Account is the user that a child runs as.
type Account struct {
	Name     string
	UID, GID uint32
}

// FindAccount returns the first of the named users that exists here.
func FindAccount(names ...string) (*Account, error) {
	for _, name := range names {
		if u, err := user.Lookup(name); err == nil {
			return account(u)
		}
	}
	return nil, fmt.Errorf("none of the users %v exists on this machine", names)
}

// AccountOf returns the owner of a file. An owner without a name is named by its
// number.
func AccountOf(info os.FileInfo) *Account {
	st := info.Sys().(*syscall.Stat_t)
	a := &Account{Name: strconv.Itoa(int(st.Uid)), UID: st.Uid, GID: st.Gid}
	if u, err := user.LookupId(a.Name); err == nil {
		a.Name = u.Username
	}
	return a
}

func account(u *user.User) (*Account, error) {
	uid, errU := strconv.ParseUint(u.Uid, 10, 32)
	gid, errG := strconv.ParseUint(u.Gid, 10, 32)
	if errU != nil || errG != nil {
		return nil, fmt.Errorf("user %s has no numeric id", u.Username)
	}
	return &Account{Name: u.Username, UID: uint32(uid), GID: uint32(gid)}, nil
}

func (a *Account) credential() *syscall.Credential {
	return &syscall.Credential{Uid: a.UID, Gid: a.GID}
}

// Own makes the account the owner of dir and everything in it. It ignores files that
// are removed meanwhile, as by a server that is ending.
func (a *Account) Own(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, int(a.UID), int(a.GID))
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
}

// Blocked returns the outermost folder above dir that the account has no permission to
// enter, or "" when there is none.
func (a *Account) Blocked(dir string) string {
	parent := filepath.Dir(dir)
	if parent != dir {
		if b := a.Blocked(parent); b != "" {
			return b
		}
	}
	info, err := os.Stat(parent)
	if err != nil {
		return "" // using the folder gives a better error
	}
	st, mode := info.Sys().(*syscall.Stat_t), info.Mode().Perm()
	switch {
	case st.Uid == a.UID:
		mode >>= 6
	case st.Gid == a.GID:
		mode >>= 3
	}
	if mode&1 == 0 {
		return parent
	}
	return ""
}
