// Command dashboards writes the generated files of k8s/components/monitoring. Run it at
// the top of the checkout.
package main

import (
	"fmt"
	"os"

	"github.com/purserhq/purser/services/devstack/dashboards"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "dashboards:", err)
		os.Exit(1)
	}
}

func run() error {
	alerts, err := os.ReadFile("docs/alerts.yaml")
	if err != nil {
		return err
	}
	files, err := dashboards.Files(string(alerts))
	if err != nil {
		return err
	}
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // part of the checkout
			return err
		}
	}
	return nil
}
