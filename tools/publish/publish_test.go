package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/bufbuild/protocompile"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

const root = "../.."

func publish(t *testing.T, more ...string) (out string) {
	t.Helper()
	out = t.TempDir()
	if err := run(t.Context(), append([]string{root, out}, more...)); err != nil {
		t.Fatal(err)
	}
	return out
}

// protos are the .proto files under a folder.
func protos(t *testing.T, folder string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".proto") {
			rel, err := filepath.Rel(folder, path)
			names = append(names, filepath.ToSlash(rel))
			return err
		}
		return err
	})
	if err != nil || len(names) == 0 {
		t.Fatalf("%s has the files %v, %v", folder, names, err)
	}
	return names
}

func TestThePublishedFolderCompilesWithoutAnyOtherFile(t *testing.T) {
	folder := filepath.Join(publish(t), "contracts")
	names := protos(t, folder)
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{ImportPaths: []string{folder}}}
	if _, err := compiler.Compile(t.Context(), names...); err != nil {
		t.Error(err)
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(folder, filepath.FromSlash(licenceOf(name)))); err != nil {
			t.Errorf("%s is published without its licence: %v", name, err)
		}
	}
	for _, ours := range protos(t, filepath.Join(root, "proto", "purser")) {
		if !slices.Contains(names, "purser/"+ours) {
			t.Errorf("purser/%s is not published", ours)
		}
	}

	// The control: one file less, and it does not.
	if err := os.Remove(filepath.Join(folder, "google", "rpc", "status.proto")); err != nil {
		t.Fatal(err)
	}
	if _, err := compiler.Compile(t.Context(), names...); err == nil {
		t.Error("the folder compiles without a file that it needs")
	}
}

func TestTheDescriptorSetIsCompleteAndHasErrorDetails(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(publish(t), "purser.protoset"))
	if err != nil {
		t.Fatal(err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(b, set); err != nil {
		t.Fatal(err)
	}
	var before []string
	for _, f := range set.GetFile() {
		for _, imported := range f.GetDependency() {
			if !slices.Contains(before, imported) {
				t.Errorf("%s is before %s, which it imports", f.GetName(), imported)
			}
		}
		before = append(before, f.GetName())
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []protoreflect.FullName{"purser.wallet.v1.WalletService", "google.rpc.Status",
		"google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo", "buf.validate.field"} {
		if _, err := files.FindDescriptorByName(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheFilesOfOtherProjectsAreThoseThatTheServicesAreBuiltWith(t *testing.T) {
	c, err := compile(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	for _, built := range []protoreflect.FileDescriptor{validate.File_buf_validate_validate_proto,
		errdetails.File_google_rpc_error_details_proto, status.File_google_rpc_status_proto} {
		i := slices.IndexFunc(c.all, func(f protoreflect.FileDescriptor) bool { return f.Path() == built.Path() })
		if i < 0 {
			t.Errorf("%s is not published", built.Path())
			continue
		}
		if got, want := onTheWire(t, c.all[i]), onTheWire(t, built); !proto.Equal(got, want) {
			t.Errorf("%s is of another version than the Go package: see tools/thirdparty.sh\ngot  %v\nwant %v",
				built.Path(), got, want)
		}
	}
}

// onTheWire is a descriptor without what has no meaning on the wire: comments, and the options of languages.
func onTheWire(t *testing.T, f protoreflect.FileDescriptor) *descriptorpb.FileDescriptorProto {
	t.Helper()
	b, err := proto.Marshal(protodesc.ToFileDescriptorProto(f))
	if err != nil {
		t.Fatal(err)
	}
	p := &descriptorpb.FileDescriptorProto{}
	if err := proto.Unmarshal(b, p); err != nil {
		t.Fatal(err)
	}
	p.SourceCodeInfo, p.Options = nil, nil
	return p
}

func TestTheArchiveHasTheFolderAndIsTheSameEachTime(t *testing.T) {
	one, two := publish(t, "v1.2.3"), publish(t, "v1.2.3")
	folder := filepath.Join(publish(t), "contracts")
	for _, name := range []string{"purser.protoset", "purser-contracts.tar.gz"} {
		a, errA := os.ReadFile(filepath.Join(one, name))
		b, errB := os.ReadFile(filepath.Join(two, name))
		if err := errors.Join(errA, errB); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s is different each time, or: %v", name, err)
		}
	}
	f, err := os.Open(filepath.Join(one, "purser-contracts.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for archive := tar.NewReader(zip); ; n++ {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path, ok := strings.CutPrefix(h.Name, "purser-contracts-v1.2.3/")
		got, errGot := io.ReadAll(archive)
		want, errWant := os.ReadFile(filepath.Join(folder, filepath.FromSlash(path)))
		if err := errors.Join(errGot, errWant); err != nil || !ok || !bytes.Equal(got, want) {
			t.Errorf("the archive's %s is not the folder's: %v", h.Name, err)
		}
	}
	if n < len(protos(t, folder)) {
		t.Errorf("the archive has only %d files", n)
	}
}

func TestASecondRunLeavesNoFileOfTheFirst(t *testing.T) {
	out := publish(t)
	gone := filepath.Join(out, "contracts", "purser", "gone.proto")
	if err := os.WriteFile(gone, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), []string{root, out}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(gone); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is no longer published stays: %v", err)
	}
	left, err := os.ReadDir(out)
	if err != nil || len(left) != 2 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}

// What grpcurl is built of is then compiled already where the suite is.
func TestTheVersionsAreThoseOfTheWorkspace(t *testing.T) {
	versions := func(environ string) map[string]string {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-m", "all")
		cmd.Env = append(os.Environ(), environ)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for line := range strings.Lines(string(out)) {
			if module, version, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
				found[module], _, _ = strings.Cut(version, " ")
			}
		}
		return found
	}
	workspace, err := filepath.Abs(filepath.Join(root, "go.work"))
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := versions("GOWORK=off"), versions("GOWORK="+workspace)
	for _, module := range []string{"google.golang.org/grpc", "google.golang.org/protobuf", "golang.org/x/net",
		"golang.org/x/sys", "golang.org/x/text", "google.golang.org/genproto/googleapis/rpc",
		"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go"} {
		if ours[module] != theirs[module] || ours[module] == "" {
			t.Errorf("%s is %s here and %s in the workspace: go get %[1]s@%[3]s", module, ours[module],
				theirs[module])
		}
	}
}
