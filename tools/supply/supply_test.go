package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	digest   = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	revision = "0123456789abcdef0123456789abcdef01234567"
)

// release makes a folder of a release, signed with a new key, and returns both.
func release(t *testing.T) (folder, key string) {
	t.Helper()
	t.Setenv("COSIGN_PASSWORD", "of the test")
	folder, key = t.TempDir(), filepath.Join(t.TempDir(), "cosign.key")
	write(t, filepath.Join(folder, "auth.cdx.json"), []byte("{}"))
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	index := []byte(`{"manifests": [{"digest": "sha256:` + digest + `"}]}`)
	if err := w.WriteHeader(&tar.Header{Name: "index.json", Mode: 0o644, Size: int64(len(index))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(index); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "auth.oci.tar"), archive.Bytes())
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"keygen", key}, {"provenance", folder, "https://git.example/purser", revision,
		"v0.1.0", "https://builder.example", program}, {"sign", key, folder}} {
		if err := run(t.Context(), args); err != nil {
			t.Fatal(args, err)
		}
	}
	return folder, key
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAReleaseIsSignedAndVerified(t *testing.T) {
	folder, key := release(t)
	if err := run(t.Context(), []string{"verify", key + ".pub", folder}); err != nil {
		t.Error(err)
	}
}

// The control of the test above.
func TestWhatIsNotAsItWasSignedIsRefused(t *testing.T) {
	for name, change := range map[string]func(folder, key string){
		"a changed byte": func(folder, _ string) { write(t, filepath.Join(folder, "auth.cdx.json"), []byte("{ ")) },
		"a changed byte in the provenance": func(folder, _ string) {
			path := filepath.Join(folder, provenanceFile)
			b, _ := os.ReadFile(path)
			write(t, path, bytes.Replace(b, []byte("builder.example"), []byte("builder.exampl3"), 1))
		},
		"a file that isn't signed":  func(folder, _ string) { write(t, filepath.Join(folder, "more"), nil) },
		"a signature of other data": func(folder, _ string) { swap(t, folder, "auth.cdx.json", "auth.oci.tar") },
		"no provenance": func(folder, _ string) {
			for _, suffix := range []string{"", signatureSuffix} {
				if err := os.Remove(filepath.Join(folder, provenanceFile+suffix)); err != nil {
					t.Fatal(err)
				}
			}
		},
		// Signed again after a change, without a new provenance: that is of the former file.
		"a provenance of other files": func(folder, key string) {
			write(t, filepath.Join(folder, "auth.cdx.json"), []byte("[]"))
			if err := signFolder(t.Context(), key, folder); err != nil {
				t.Fatal(err)
			}
		},
		"another key": func(_, key string) {
			if err := os.Remove(key + ".pub"); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(key); err != nil {
				t.Fatal(err)
			}
			if err := generateKey(key); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder, key := release(t)
			change(folder, key)
			err := run(t.Context(), []string{"verify", key + ".pub", folder})
			if err == nil {
				t.Fatal("it is verified")
			}
			t.Log(err)
		})
	}
}

// swap exchanges the signatures of two files.
func swap(t *testing.T, folder, a, b string) {
	t.Helper()
	one, two := filepath.Join(folder, a+signatureSuffix), filepath.Join(folder, b+signatureSuffix)
	first, err := os.ReadFile(one)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(two)
	if err != nil {
		t.Fatal(err)
	}
	write(t, one, second)
	write(t, two, first)
}

func TestAKeyIsReadWithItsPasswordAndNeverReplaced(t *testing.T) {
	_, key := release(t)
	if err := generateKey(key); err == nil {
		t.Error("a key was replaced")
	}
	t.Setenv("COSIGN_PASSWORD", "another")
	if _, err := loadKey(key); err == nil {
		t.Error("the key was read with another password")
	}
}

func TestTheProvenanceNamesSourceBuilderMaterialsAndWhatWasBuilt(t *testing.T) {
	folder, _ := release(t)
	b, err := os.ReadFile(filepath.Join(folder, provenanceFile))
	if err != nil {
		t.Fatal(err)
	}
	type resource struct {
		Name, URI string
		Digest    map[string]string
	}
	var s struct {
		Type          string `json:"_type"`
		PredicateType string
		Subject       []resource
		Predicate     struct {
			BuildDefinition struct{ ResolvedDependencies []resource }
			RunDetails      struct{ Builder struct{ ID string } }
		}
	}
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	has := func(list []resource, name, algorithm, want string) bool {
		return slices.ContainsFunc(list, func(r resource) bool {
			return (r.Name == name || strings.HasPrefix(r.URI, name)) && (want == "" || r.Digest[algorithm] == want)
		})
	}
	made := s.Predicate.BuildDefinition.ResolvedDependencies
	if s.Type != "https://in-toto.io/Statement/v1" || s.PredicateType != "https://slsa.dev/provenance/v1" ||
		s.Predicate.RunDetails.Builder.ID != "https://builder.example" ||
		!has(s.Subject, "purser/auth", "sha256", digest) || !has(s.Subject, "auth.cdx.json", "", "") ||
		!has(made, "git+https://git.example/purser", "gitCommit", revision) ||
		!has(made, "pkg:golang/github.com/sigstore/sigstore-go@", "", "") ||
		!has(made, "pkg:golang/toolchain@go1", "", "") {
		t.Errorf("the statement is %s", b)
	}
}

// The bill of materials of a program has the modules that it was linked with.
func TestABillOfMaterialsListsTheModulesOfAProgram(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "tool", "cyclonedx-gomod", "bin", "-json", "-std",
		"-version", "v0.1.0", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BOMFormat  string
		Components []struct {
			Name, PURL string
			Hashes     []struct{ Alg, Content string }
		}
	}
	if err := json.Unmarshal(out, &bom); err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, c := range bom.Components {
		found[c.Name] = len(c.Hashes)
	}
	if _, std := found["std"]; bom.BOMFormat != "CycloneDX" || !std || found["github.com/sigstore/sigstore-go"] != 1 {
		t.Errorf("the bill is %.500s", out)
	}
}
