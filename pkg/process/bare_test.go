package process_test

import (
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestAProgramRunsOnASystemWithoutTimeZonesAndRootCertificates asks a process of its own, for which there are neither
// roots nor time zones but those of the program.
func TestAProgramRunsOnASystemWithoutTimeZonesAndRootCertificates(t *testing.T) {
	if os.Getenv("BARE") != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			t.Fatal(err)
		}
		zurich, err := time.LoadLocation("Europe/Zurich")
		if err != nil {
			t.Fatal(err)
		}
		_, offset := time.Date(2026, 7, 1, 0, 0, 0, 0, zurich).Zone()
		fmt.Printf("bare: %t %d\n", roots.Equal(x509.NewCertPool()), offset)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = []string{"BARE=1", "SSL_CERT_FILE=/absent", "SSL_CERT_DIR=/absent", "ZONEINFO=/absent"}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "bare: false 7200\n") {
		t.Errorf("%v\n%s", err, out)
	}
}
