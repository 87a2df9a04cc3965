package policy_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/purserhq/purser/services/devstack/accessdoc"
)

func TestTheAccessTableIsUpToDate(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root(t), "docs", "access.md"))
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != accessdoc.Markdown() {
		t.Error("docs/access.md differs from the contracts and the roles: run make generate")
	}
}
