package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/process"
	authapp "github.com/purserhq/purser/services/auth/app"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
	"github.com/purserhq/purser/services/internal/mailserver"
)

const usage = `devstack                  run the suite; PURSER_* variables configure it
devstack auth COMMAND     run a command of the auth service on the running suite, such as keys list
devstack code EMAIL       print the latest mailed code of an address
devstack sign NAME        sign with the key of a demo account`

// subcommand runs a command other than the suite itself.
func subcommand(ctx context.Context, args, environ []string, out io.Writer) error {
	switch {
	case args[0] == "sign":
		return sign(args[1:], os.Stdin, out)
	case args[0] == "auth" && len(args) > 1:
		dir, pid, err := runningSuite(environ)
		if err != nil {
			return err
		}
		return authCommand(ctx, dir, pid, args[1:], out)
	case args[0] == "code" && len(args) == 2:
		dir, _, err := runningSuite(environ)
		if err != nil {
			return err
		}
		return mailedCode(ctx, dir, args[1], out)
	}
	return fmt.Errorf("unknown arguments %q; there are:\n%s", strings.Join(args, " "), usage)
}

// runningSuite returns the data folder and the process id of the running suite.
func runningSuite(environ []string) (dir string, pid int, err error) {
	var s struct {
		Dir string `env:"DEV_DIR"`
	}
	if err := config.Load(environ, &s); err != nil {
		return "", 0, err
	}
	if dir, err = dataDir(s.Dir); err != nil {
		return "", 0, err
	}
	if pid = suite.Running(dir); pid == 0 {
		return "", 0, fmt.Errorf("no suite runs on %s: start it with make run, or set PURSER_DEV_DIR to "+
			"the folder of one", dir)
	}
	return dir, pid, nil
}

// authEnviron is the file with the configuration of a suite's auth service.
const authEnviron = "auth-environ.json"

// storedEnviron is the content of the file: the suite's process id, and NAME=value.
type storedEnviron struct {
	PID     int
	Environ []string
}

// storeAuthEnviron writes the file, which only its owner can read: it has the URL of the database. The function
// removes it.
func storeAuthEnviron(dir string, environ []string) (remove func(), err error) {
	path := filepath.Join(dir, authEnviron)
	text, err := json.Marshal(storedEnviron{os.Getpid(), environ})
	if err == nil {
		_ = os.Remove(path) // its mode would stay
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("store the configuration of auth: %w", err)
	}
	return func() { _ = os.Remove(path) }, nil
}

// authCommand runs a command of the auth service on the suite of a data folder.
func authCommand(ctx context.Context, dir string, pid int, args []string, out io.Writer) error {
	var stored storedEnviron
	text, err := os.ReadFile(filepath.Join(dir, authEnviron))
	if err == nil {
		err = json.Unmarshal(text, &stored)
	}
	if errors.Is(err, fs.ErrNotExist) || err == nil && stored.PID != pid { // of a suite that was killed
		return fmt.Errorf("the suite on %s is still starting: try again when it has started auth", dir)
	}
	if err != nil {
		return fmt.Errorf("configuration of auth: %w", err)
	}
	cfg, err := authapp.Load(stored.Environ)
	if err != nil {
		return err
	}
	err = authapp.Command(ctx, cfg, slog.New(slog.DiscardHandler), args, out)
	if errors.Is(err, process.ErrUnknownCommand) {
		return fmt.Errorf("auth has no command %q; it has:\n%s", strings.Join(args, " "), authapp.Usage)
	}
	return err
}

// mailsFile has a line for each mail with a code: receiver, code and subject, separated by tabs.
const mailsFile = "mails.tsv"

// storeCode appends the code of a mail to the file in the suite's data folder, which only its owner can read.
func storeCode(dir string, m mailserver.Mail) (err error) {
	code := demo.Code(m)
	if code == "" {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, mailsFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("mailed codes: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = fmt.Fprintf(f, "%s\t%s\t%s\n", strings.ToLower(m.To), code, m.Subject)
	return err
}

// codeTimeout bounds waiting for a mailed code.
const codeTimeout = 10 * time.Second

// mailedCode prints the latest code that was mailed to an address, and waits for one.
func mailedCode(ctx context.Context, dir, email string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, codeTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		code, err := latestCode(filepath.Join(dir, mailsFile), email)
		if err != nil {
			return err
		}
		if code != "" {
			_, err := fmt.Fprintln(out, code)
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no code was mailed to %s within %s; an address that has an account gets "+
				"none when it is registered again", email, codeTimeout)
		case <-tick.C:
		}
	}
}

// latestCode returns the last code in the file for an address; "" if there is none.
func latestCode(path, email string) (code string, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("mailed codes: %w", err)
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Split(lines.Text(), "\t"); len(fields) == 3 && fields[0] == strings.ToLower(email) {
			code = fields[1]
		}
	}
	return code, lines.Err()
}
