package crds

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// published returns the modules of published.txt, and their folders.
func published(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("published.txt")
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if module, folder, ok := strings.Cut(strings.TrimSpace(line), " "); ok && module != "#" {
			modules[module] = folder
		}
	}
	return modules
}

// builtIn are API groups that the tests of the module k8s decode, or that no cluster sees.
func builtIn(group string) bool {
	return !strings.Contains(group, ".") ||
		strings.HasSuffix(group, ".k8s.io") && group != "gateway.networking.k8s.io"
}

// kind validates the objects of one version of a kind.
type kind struct {
	structural *schema.Structural
	validator  validation.SchemaValidator
	rules      *cel.Validator
}

// load returns the kinds that the modules define, by apiVersion and name.
func load(t *testing.T) map[string]kind {
	t.Helper()
	found := map[string]kind{}
	for module, folder := range published(t) {
		cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
		out, err := cmd.Output()
		var got struct{ Dir, Error string }
		if jsonErr := json.Unmarshal(out, &got); err != nil || jsonErr != nil {
			t.Fatalf("%s can't be had: %v %s", module, errors.Join(err, jsonErr), got.Error)
		}
		files, err := filepath.Glob(filepath.Join(got.Dir, folder, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no definitions in %s (%v)", module, folder, err)
		}
		for _, file := range files {
			for _, text := range documents(t, file) {
				define(t, found, text)
			}
		}
	}
	return found
}

// define adds the versions of a CustomResourceDefinition; other objects are passed over.
func define(t *testing.T, kinds map[string]kind, text []byte) {
	t.Helper()
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(text, &crd); err != nil || crd.Kind != "CustomResourceDefinition" {
		return
	}
	for _, v := range crd.Spec.Versions {
		if v.Schema == nil || !v.Served {
			continue
		}
		var internal apiextensions.JSONSchemaProps
		if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema,
			&internal, nil); err != nil {
			t.Fatal(err)
		}
		s, err := schema.NewStructural(&internal)
		if err != nil {
			t.Fatalf("%s: %v", crd.Name, err)
		}
		validator, _, err := validation.NewSchemaValidator(&internal)
		if err != nil {
			t.Fatalf("%s: %v", crd.Name, err)
		}
		kinds[crd.Spec.Group+"/"+v.Name+" "+crd.Spec.Names.Kind] = kind{s, validator,
			cel.NewValidator(s, true, celconfig.PerCallLimit)}
	}
}

// documents returns the documents of a YAML file.
func documents(t *testing.T, file string) (found [][]byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range bytes.Split(b, []byte("\n---\n")) {
		if len(bytes.TrimSpace(text)) > 0 {
			found = append(found, text)
		}
	}
	return found
}

// amiss lists what an API server refuses or drops of an object. known reports whether the object is of a kind that
// this package has to know.
func amiss(ctx context.Context, kinds map[string]kind, text []byte) (found []string, known bool) {
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return []string{err.Error()}, false
	}
	var o map[string]any
	if err := utiljson.Unmarshal(asJSON, &o); err != nil { // which keeps integers as integers
		return []string{err.Error()}, false
	}
	version, _ := o["apiVersion"].(string)
	group, _, _ := strings.Cut(version, "/")
	if builtIn(group) {
		return nil, false
	}
	k, ok := kinds[fmt.Sprint(version, " ", o["kind"])]
	if !ok {
		return []string{fmt.Sprintf("there is no kind %v in %s", o["kind"], version)}, false
	}
	unknown := pruning.PruneWithOptions(o, k.structural, true,
		schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	for _, path := range unknown {
		found = append(found, path+": there is no such field")
	}
	defaulting.Default(o, k.structural)
	errs := validation.ValidateCustomResource(nil, o, k.validator)
	if k.rules != nil {
		more, _ := k.rules.Validate(ctx, nil, k.structural, o, nil, celconfig.RuntimeCELCostBudget)
		errs = append(errs, more...)
	}
	for _, err := range errs {
		found = append(found, err.Error())
	}
	return found, true
}

func TestObjectsOfOthersKindsAreAsTheirSchemasSay(t *testing.T) {
	kinds := load(t)
	checked := map[string]int{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		for _, text := range documents(t, path) {
			found, known := amiss(t.Context(), kinds, text)
			for _, f := range found {
				t.Errorf("%s: %s", path, f)
			}
			if known {
				checked[filepath.Base(path)]++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]int{"gateway.yaml": 4, "routes.yaml": 4, "external-secrets.example.yaml": 8} {
		if checked[file] < want {
			t.Errorf("%d objects of %s were checked, want %d", checked[file], file, want)
		}
	}
}

// The control of the test above: what is wrong in one field is found.
func TestAnObjectThatAnAPIServerRefusesIsReported(t *testing.T) {
	kinds := load(t)
	for _, tc := range []struct{ file, old, changed, want string }{
		{"../components/gateway/routes.yaml", "hostnames:", "hostname:", "hostname: there is no such field"},
		{"../components/gateway/routes.yaml", "port: 9000", "port: 90000", "65535"},
		{"../components/gateway/routes.yaml", "type: PathPrefix", "type: Prefix", "supported values"},
		{"../components/gateway/routes.yaml", "value: /oauth", "value: oauth", "absolute path"},
		{"../components/gateway/gateway.yaml", "kind: ConfigMap", "kinds: ConfigMap", "there is no such field"},
		{"../overlays/prod/external-secrets.example.yaml", "secretKey: kek", "secretkey: kek", "no such field"},
		{"../overlays/prod/external-secrets.example.yaml", "issuerRef:", "issuer:", "issuerRef: Required"},
		{"../overlays/prod/external-secrets.example.yaml", "cert-manager.io/v1", "cert-manager.io/v2", "no kind"},
	} {
		b, err := os.ReadFile(tc.file)
		if err != nil {
			t.Fatal(err)
		}
		broken := bytes.ReplaceAll(b, []byte(tc.old), []byte(tc.changed))
		if bytes.Equal(broken, b) {
			t.Errorf("%s has no %q", tc.file, tc.old)
		}
		file := filepath.Join(t.TempDir(), "broken.yaml")
		if err := os.WriteFile(file, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, text := range documents(t, file) {
			found, _ := amiss(t.Context(), kinds, text)
			all = append(all, found...)
		}
		if !strings.Contains(strings.Join(all, "\n"), tc.want) {
			t.Errorf("%q for %q is reported as %q, want %q", tc.changed, tc.old, all, tc.want)
		}
	}
}
