package tlsfiles_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/testca"
	"github.com/purserhq/purser/pkg/tlsfiles"
)

func TestMain(m *testing.M) { testkit.LeakFree(m) }

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// measured has the metrics of a test: lines of name{file} value.
func measured(t *testing.T) func() []string {
	reader, before := metric.NewManualReader(), otel.GetMeterProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })
	return func() (lines []string) {
		t.Helper()
		var data metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &data); err != nil {
			t.Fatal(err)
		}
		add := func(name string, points []metricdata.DataPoint[int64]) {
			for _, p := range points {
				file, _ := p.Attributes.Value(attribute.Key("file"))
				lines = append(lines, fmt.Sprintf("%s{%s} %d", name, filepath.Base(file.AsString()), p.Value))
			}
		}
		for _, s := range data.ScopeMetrics {
			for _, m := range s.Metrics {
				switch d := m.Data.(type) {
				case metricdata.Sum[int64]:
					add(m.Name, d.DataPoints)
				case metricdata.Gauge[int64]:
					add(m.Name, d.DataPoints)
				}
			}
		}
		slices.Sort(lines)
		return lines
	}
}

// loose is a folder of files that are written in place.
type loose struct{ cert, key string }

func (l loose) write(t *testing.T, cert, key []byte) {
	t.Helper()
	for path, content := range map[string][]byte{l.cert: cert, l.key: key} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilesThatCannotBeUsedChangeNothing(t *testing.T) {
	ca := testca.New(t, "ours")
	cert, key := ca.Issue(t, testca.Leaf{})
	newCert, newKey := ca.Issue(t, testca.Leaf{})
	expiredCert, expiredKey := ca.Issue(t, testca.Leaf{NotAfter: time.Now().Add(-time.Minute)})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		spoil func(l loose)
		want  string
	}{
		"an empty certificate": {func(l loose) { l.write(t, nil, newKey) }, "the file is empty"},
		"an empty key":         {func(l loose) { l.write(t, newCert, nil) }, "the file is empty"},
		"half a certificate": {func(l loose) { l.write(t, newCert[:len(newCert)/2], newKey) },
			"failed to find any PEM"},
		"the key of another":    {func(l loose) { l.write(t, newCert, key) }, "private key does not match public key"},
		"no certificate at all": {func(l loose) { must(os.Remove(l.cert)) }, "no such file"},
		"a directory": {func(l loose) { must(os.Remove(l.key)); must(os.Mkdir(l.key, 0o700)) },
			"not a regular file"},
		"a pipe": {func(l loose) { must(os.Remove(l.cert)); must(syscall.Mkfifo(l.cert, 0o600)) },
			"not a regular file"},
		"a link to nothing": {func(l loose) { must(os.Remove(l.cert)); must(os.Symlink("absent", l.cert)) },
			"no such file"},
		"a large file": {func(l loose) { l.write(t, bytes.Repeat([]byte("a\n"), 1<<20), newKey) },
			"larger than"},
		"an expired certificate": {func(l loose) { l.write(t, expiredCert, expiredKey) }, "has expired at"},
		"a file nobody may read": {func(l loose) { must(os.Chmod(l.key, 0)) }, "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "a file nobody may read" && os.Geteuid() == 0 {
				t.Skip("root may read every file")
			}
			metrics, c := measured(t), newClock()
			var log testkit.LogBuffer
			dir := t.TempDir()
			l := loose{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
			l.write(t, cert, key)
			pair, err := tlsfiles.LoadPairAt(l.cert, l.key, slog.New(slog.NewTextHandler(&log, nil)), c.now)
			if err != nil {
				t.Fatal(err)
			}
			before := pair.Certificate()
			if got := metrics(); !slices.Contains(got, "tls_reload_failures_total{tls.crt} 0") {
				t.Errorf("before any failure measured %q", got)
			}
			tt.spoil(l)
			for range 3 {
				c.add(time.Second)
				if pair.Certificate() != before {
					t.Fatal("another certificate is in use")
				}
			}
			expiry := fmt.Sprintf("tls_certificate_expiry_timestamp_seconds{tls.crt} %d", before.Leaf.NotAfter.Unix())
			if got := metrics(); !slices.Equal(got, []string{expiry, "tls_reload_failures_total{tls.crt} 3"}) {
				t.Errorf("measured %q", got)
			}
			if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "level=WARN") ||
				!strings.Contains(text, tt.want) || !strings.Contains(text, l.cert) {
				t.Errorf("logged %s, want once %q", text, tt.want)
			}
			if text := log.String(); strings.Contains(text, "PRIVATE KEY") {
				t.Errorf("the log has the key: %s", text)
			}
			if _, err := tlsfiles.LoadPair(l.cert, l.key, slog.New(slog.DiscardHandler)); err == nil ||
				!strings.Contains(err.Error(), tt.want) {
				t.Errorf("at the start the error is %v", err)
			}

			l.write(t, newCert, newKey)
			c.add(time.Second)
			if pair.Certificate() == before {
				t.Error("good files were not taken")
			}
			if !strings.Contains(log.String(), "TLS files are in use") {
				t.Errorf("logged %s", log.String())
			}
		})
	}
}

// The control of the test above: files that come back as they were are good again.
func TestFilesThatComeBackAreInUse(t *testing.T) {
	ca := testca.New(t, "ours")
	cert, key := ca.Issue(t, testca.Leaf{})
	var log testkit.LogBuffer
	c, l := newClock(), loose{filepath.Join(t.TempDir(), "crt"), filepath.Join(t.TempDir(), "key")}
	l.write(t, cert, key)
	pair, err := tlsfiles.LoadPairAt(l.cert, l.key, slog.New(slog.NewTextHandler(&log, nil)), c.now)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l.write(t, cert, nil)
		c.add(time.Second)
		pair.Certificate()
		l.write(t, cert, key)
		c.add(time.Second)
		pair.Certificate()
	}
	if text := log.String(); strings.Count(text, "can't be used") != 2 || strings.Count(text, "are in use") != 2 {
		t.Errorf("logged %s", text)
	}
}

func TestASwapOfAllFilesIsNeverSeenInPart(t *testing.T) {
	ca := testca.New(t, "ours")
	cert, key := ca.Issue(t, testca.Leaf{})
	folder := testca.NewFolder(t, ca.PEM, cert, key)
	var log testkit.LogBuffer
	c := newClock()
	pair, err := tlsfiles.LoadPairAt(folder.Cert(), folder.Key(), slog.New(slog.NewTextHandler(&log, nil)), c.now)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		before := pair.Certificate()
		cert, key := ca.Issue(t, testca.Leaf{})
		done := make(chan struct{})
		go func() { defer close(done); folder.Put(t, ca.PEM, cert, key) }()
		for range 100 {
			c.add(time.Second)
			pair.Certificate()
		}
		<-done
		c.add(time.Second)
		if pair.Certificate() == before {
			t.Fatal("the new certificate is not in use")
		}
	}
	if strings.Contains(log.String(), "can't be used") {
		t.Errorf("logged %s", log.String())
	}
}

func TestABundleIsTakenAsAWholeOrNotAtAll(t *testing.T) {
	first, second := testca.New(t, "first"), testca.New(t, "second")
	path, c := filepath.Join(t.TempDir(), "ca.crt"), newClock()
	write := func(parts ...[]byte) {
		if err := os.WriteFile(path, bytes.Join(parts, nil), 0o600); err != nil {
			t.Fatal(err)
		}
		c.add(time.Second)
	}
	write(first.PEM)
	roots, err := tlsfiles.LoadRootsAt(path, slog.New(slog.DiscardHandler), c.now)
	if err != nil {
		t.Fatal(err)
	}
	one := roots.Pool()
	broken := []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	for name, bundle := range map[string][]byte{
		"one that can't be read": append(slices.Clone(second.PEM), broken...),
		"half of the second":     append(slices.Clone(first.PEM), second.PEM[:len(second.PEM)/2]...),
		"none":                   []byte("no certificate"),
		"a key":                  []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
	} {
		if write(bundle); roots.Pool() != one {
			t.Errorf("a bundle with %s was taken", name)
		}
	}
	write(first.PEM, []byte("# the next one\n"), second.PEM)
	if both := roots.Pool(); len(both.Subjects()) != 2 { //nolint:staticcheck // no system roots are in it
		t.Errorf("%d authorities of 2", len(both.Subjects())) //nolint:staticcheck // as above
	}
}

func TestMetricsOfACertificateEndWithItsUse(t *testing.T) {
	metrics := measured(t)
	ca := testca.New(t, "ours")
	cert, key := ca.Issue(t, testca.Leaf{})
	folder := testca.NewFolder(t, ca.PEM, cert, key)
	pair, err := tlsfiles.LoadPair(folder.Cert(), folder.Key(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	expires := func() bool {
		return slices.ContainsFunc(metrics(), func(l string) bool { return strings.Contains(l, "expiry") })
	}
	if !expires() {
		t.Fatal("no expiry is measured")
	}
	runtime.KeepAlive(pair)
	testkit.Eventually(t, time.Minute, func() bool { runtime.GC(); return !expires() })
}
