// Package tlsfiles reads what TLS needs from PEM files that may be replaced while a process
// runs: certificates with their keys, and bundles of certificate authorities.
//
// Promise: each handshake uses what the files have had for a second or more. Files that
// can't be used (missing, half-written, a key of another certificate, an expired
// certificate) change nothing: the last good ones stay in use, a log line says why, and
// tls_reload_failures_total counts. A replacement may be a rename, an atomic swap of a
// symbolic link (as Kubernetes does for Secrets) or a file that is written in place.
//
// Files are read at handshakes, at most once a second, and whenever metrics are collected:
// there is nothing to start or to close. Everything is safe for concurrent use.
//
// Limits: a connection that is open keeps what it was opened with. Revoked certificates are
// not known (no CRL, no OCSP): use certificates of hours or days. A file larger than 1 MiB
// is refused.
package tlsfiles

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const (
	// checkInterval is the least time between two looks at the files.
	checkInterval = time.Second
	// maxFile is the largest file that is read, in bytes.
	maxFile = 1 << 20
	// maxTornReads is how often files are read that can't be used, unless they are the same
	// twice: a swap between the read of the certificate and that of the key is no mistake.
	maxTornReads = 3
)

// watched is a value that is parsed from files, anew when they change.
type watched[T any] struct {
	paths []string
	parse func(contents [][]byte, now time.Time) (T, error)
	log   *slog.Logger
	now   func() time.Time
	// expiry returns when the value expires; nil for one that is not measured.
	expiry   func(T) time.Time
	failures metric.Int64Counter
	file     metric.MeasurementOption

	value atomic.Pointer[T]

	// looking is held by the one that looks at the files; the others use the value as it is.
	looking sync.Mutex
	looked  time.Time
	digest  [sha256.Size]byte // of the files that value is from
	failure string            // of the last look, already logged; empty after a good one
}

// watch reads the files once; the error says what is wrong with them.
func watch[T any](paths []string, log *slog.Logger, now func() time.Time,
	parse func([][]byte, time.Time) (T, error), expiry func(T) time.Time) (*watched[T], error) {
	w := &watched[T]{paths: paths, parse: parse, log: log, now: now, expiry: expiry,
		file: metric.WithAttributeSet(attribute.NewSet(attribute.String("file", paths[0])))}
	if err := w.read(); err != nil {
		return nil, err
	}
	w.looked = now()
	w.measure()
	return w, nil
}

// get returns the value of the files as of the last second, or the last good one.
func (w *watched[T]) get() T {
	if w.looking.TryLock() {
		if now := w.now(); now.Sub(w.looked) >= checkInterval {
			w.look()
			w.looked = now
		}
		w.looking.Unlock()
	}
	return *w.value.Load()
}

// look reads the files and takes over what they have. looking must be held.
func (w *watched[T]) look() {
	digest := w.digest
	if err := w.read(); err != nil {
		w.failures.Add(context.Background(), 1, w.file)
		if text := err.Error(); text != w.failure {
			w.failure = text
			w.log.Warn("TLS files can't be used: those before stay in use", "file", w.paths[0], "error", err)
		}
		return
	}
	if digest == w.digest && w.failure == "" {
		return
	}
	w.failure = ""
	attrs := []any{"file", w.paths[0]}
	if w.expiry != nil {
		attrs = append(attrs, "expires", w.expiry(*w.value.Load()).UTC())
	}
	w.log.Info("TLS files are in use", attrs...)
}

// read reads and parses the files, again if they change meanwhile, and takes them over if they
// are good. Files that have what is in use are not parsed.
func (w *watched[T]) read() error {
	var last [sha256.Size]byte
	for try := 1; ; try++ {
		contents, digest, err := readAll(w.paths)
		if err == nil {
			if digest == w.digest {
				return nil
			}
			var value T
			if value, err = w.parse(contents, w.now()); err == nil {
				w.value.Store(&value)
				w.digest = digest
				return nil
			}
			if digest == last {
				try = maxTornReads // as bad as a moment before
			}
		}
		if try == maxTornReads {
			return fmt.Errorf("%s: %w", strings.Join(w.paths, ", "), err)
		}
		last = digest
	}
}

func readAll(paths []string) (contents [][]byte, digest [sha256.Size]byte, err error) {
	all := sha256.New()
	for _, path := range paths {
		content, err := readFile(path)
		if err != nil {
			return nil, digest, err
		}
		one := sha256.Sum256(content)
		_, _ = all.Write(one[:])
		contents = append(contents, content)
	}
	return contents, [sha256.Size]byte(all.Sum(nil)), nil
}

// readFile reads a regular file: a pipe would block for ever.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, plain(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, plain(err)
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, plain(err)
	case len(content) > maxFile:
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	case len(content) == 0:
		return nil, errors.New("the file is empty")
	}
	return content, nil
}

// plain returns an error of the file system without the path, which read adds.
func plain(err error) error {
	var failed *os.PathError
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// measure reports the failures, and the expiry at each collection for as long as w is in use.
func (w *watched[T]) measure() {
	meter := otel.Meter("github.com/purserhq/purser/pkg/tlsfiles")
	// An instrument that can't be made is a no-op one.
	w.failures, _ = meter.Int64Counter("tls_reload_failures_total",
		metric.WithDescription("Looks at TLS files that can't be used, while those before stay in use."))
	w.failures.Add(context.Background(), 0, w.file)
	if w.expiry == nil {
		return
	}
	expires, _ := meter.Int64ObservableGauge("tls_certificate_expiry_timestamp_seconds", metric.WithUnit("s"),
		metric.WithDescription("Unix time at which the certificate in use expires."))
	inUse := weak.Make(w)
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		if w := inUse.Value(); w != nil {
			o.ObserveInt64(expires, w.expiry(w.get()).Unix(), w.file)
		}
		return nil
	}, expires)
	if err == nil {
		runtime.AddCleanup(w, func(r metric.Registration) { _ = r.Unregister() }, registration)
	}
}
