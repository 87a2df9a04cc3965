// Command accessdoc prints docs/access.md.
package main

import (
	"fmt"
	"os"

	"github.com/purserhq/purser/services/devstack/accessdoc"
)

func main() {
	if _, err := os.Stdout.WriteString(accessdoc.Markdown()); err != nil {
		fmt.Fprintln(os.Stderr, "accessdoc:", err)
		os.Exit(1)
	}
}
