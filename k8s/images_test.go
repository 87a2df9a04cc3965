package k8s_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

const nonRootUID = 65532

// image is a built container image; root is where its files are mounted.
type image struct {
	root   string
	digest string // of its manifest
	size   int64  // of all that a registry stores of it, in bytes
	config struct {
		User         string
		Entrypoint   []string
		ExposedPorts map[string]struct{}
		Labels       map[string]string
	}
}

// buildImages builds services' images with buildah, in a store in a temporary folder, from the programs in a folder,
// and returns them by service.
func buildImages(t *testing.T, programs string, services ...string) map[string]image {
	t.Helper()
	if _, err := exec.LookPath("buildah"); err != nil || os.Geteuid() != 0 {
		t.Skip("building images needs root and buildah (apt-get install buildah, which `make test` does for root)")
	}
	dir := t.TempDir()
	buildah := []string{"buildah", "--storage-driver=vfs", "--root=" + dir + "/root", "--runroot=" + dir + "/run"}
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		var failure strings.Builder
		cmd.Stderr = &failure
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, &failure)
		}
		return out
	}
	// The programs are built already, so binaries, which images depends on, is left out.
	run("make", "-C", "..", "--no-print-directory", "-o", "binaries", "images", "TAG=test",
		"IMAGES="+programs, "SERVICES="+strings.Join(services, " "), "IMAGE_TOOL="+strings.Join(buildah, " "))
	found := map[string]image{}
	for _, service := range services {
		name := "purser/" + service + ":test"
		var i image
		layout := filepath.Join(dir, "layout-"+service)
		run(append(buildah, "push", name, "oci:"+layout)...)
		i.digest, i.size = manifest(t, layout)
		about := struct{ OCIv1 struct{ Config any } }{}
		about.OCIv1.Config = &i.config
		if err := json.Unmarshal(run(append(buildah, "inspect", "--type=image", name)...), &about); err != nil {
			t.Fatal(err)
		}
		container := strings.TrimSpace(string(run(append(buildah, "from", name)...)))
		i.root = strings.TrimSpace(string(run(append(buildah, "mount", container)...)))
		found[service] = i
	}
	return found
}

// manifest returns the digest of the image in an OCI layout, and the size of all that belongs to it.
func manifest(t *testing.T, layout string) (digest string, size int64) {
	t.Helper()
	type blob struct {
		Digest string
		Size   int64
	}
	read := func(path string, into any) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(layout, path))
		if err == nil {
			err = json.Unmarshal(b, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var index struct{ Manifests []blob }
	read("index.json", &index)
	if len(index.Manifests) != 1 {
		t.Fatalf("the layout has %d images", len(index.Manifests))
	}
	var m struct {
		Config blob
		Layers []blob
	}
	read(filepath.Join("blobs", strings.Replace(index.Manifests[0].Digest, ":", "/", 1)), &m)
	size = index.Manifests[0].Size + m.Config.Size
	for _, l := range m.Layers {
		size += l.Size
	}
	return index.Manifests[0].Digest, size
}

// command runs the image's program as Kubernetes would: in the image's files
// alone, as an unprivileged user.
func (i image) command(t *testing.T, env map[string]string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), i.config.Entrypoint[0], args...)
	cmd.Dir = "/"
	cmd.Env = []string{}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	user := &syscall.Credential{Uid: nonRootUID, Gid: nonRootUID}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: i.root, Credential: user}
	return cmd
}

func TestAnImageHasItsProgramAloneAndServes(t *testing.T) {
	t.Parallel()
	if err := programs(); err != nil {
		t.Fatal(err)
	}
	built := buildImages(t, ".build/images", services()...)
	r := render(t, "dev")
	for _, service := range services() {
		t.Run(service, func(t *testing.T) {
			i := built[service]
			d, _ := named[*appsv1.Deployment](r, service)
			w := workload{"Deployment " + service, d, &d.Spec.Template}
			ports := map[string]struct{}{}
			for _, p := range w.containers()[0].Ports {
				ports[fmt.Sprintf("%d/tcp", p.ContainerPort)] = struct{}{}
			}
			c := i.config
			if c.User != fmt.Sprintf("%d:%[1]d", nonRootUID) ||
				!reflect.DeepEqual(c.Entrypoint, []string{"/" + service}) ||
				!reflect.DeepEqual(c.ExposedPorts, ports) ||
				!reflect.DeepEqual(c.Labels, map[string]string{
					"org.opencontainers.image.title":    "purser/" + service,
					"org.opencontainers.image.source":   "https://github.com/purserhq/purser",
					"org.opencontainers.image.version":  "test",
					"org.opencontainers.image.revision": strings.Fields(describedVersion(t))[1],
					"org.opencontainers.image.licenses": "Apache-2.0",
				}) {
				t.Errorf("the image is configured as %+v", c)
			}
			t.Logf("figure: the image of %s has %.1f MB in a registry", service, float64(i.size)/1e6)
			if i.size > 30e6 {
				t.Errorf("the image has %d bytes in a registry, want at most 30 MB", i.size)
			}
			if found := files(t, i.root); !reflect.DeepEqual(found, []string{service + " -rwxr-xr-x"}) {
				t.Errorf("in the image is %q", found)
			}
			for command, want := range map[string]string{"version": service + " " + describedVersion(t),
				"help": "healthcheck "} {
				if out, err := i.command(t, nil, command).CombinedOutput(); err != nil ||
					!strings.Contains(string(out), want) {
					t.Errorf("%s: %v: %s", command, err, out)
				}
			}
			b, err := os.ReadFile(filepath.Join(i.root, service))
			if err != nil {
				t.Fatal(err)
			}
			for _, carried := range []string{"Europe/Zurich", "ISRG Root X1"} {
				if !strings.Contains(string(b), carried) {
					t.Errorf("the program doesn't carry %s", carried)
				}
			}
			checkServing(t, r, w, i)
		})
	}
}

// Whoever builds a commit again gets the image that was published, so that all can check what it is made of. The
// program is linked again and packed in another store.
func TestTwoBuildsOfACommitAreOneImage(t *testing.T) {
	t.Parallel()
	if err := programs(); err != nil {
		t.Fatal(err)
	}
	first := buildImages(t, ".build/images", "auth")["auth"]
	again := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "make", "-C", "..", "--no-print-directory", "binaries",
		"IMAGES="+again, "SERVICES=auth").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	second := buildImages(t, again, "auth")["auth"]
	if first.digest != second.digest {
		t.Errorf("the second build is %s, the first %s", second.digest, first.digest)
	}
	// The control: one more byte is another image.
	f, err := os.OpenFile(filepath.Join(again, "auth", "auth"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if changed := buildImages(t, again, "auth")["auth"]; changed.digest == first.digest {
		t.Error("a changed program has the same digest")
	}
}

// describedVersion is what Git calls the tree that the images are built of.
func describedVersion(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", "describe", "--tags", "--always", "--dirty", "--abbrev=12",
		"--match=v[0-9]*").Output()
	if err != nil {
		t.Skipf("this is no Git repository, so programs have no version: %v", err)
	}
	commit, err := exec.CommandContext(t.Context(), "git", "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out)) + " " + strings.TrimSpace(string(commit)) + " "
}

// files returns the paths and modes of everything under root but folders.
func files(t *testing.T, root string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			found = append(found, strings.TrimPrefix(path, root+"/")+" "+info.Mode().String())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// checkServing starts the image's program with its pod's environment and files,
// waits for its health check and stops it. There is no database: the program has
// to start without one, to wait for it, and to say so.
func checkServing(t *testing.T, r rendering, w workload, i image) {
	t.Helper()
	c := w.containers()[0]
	given := mount(t, r, renderedSecrets(r), w, c)
	if err := os.CopyFS(i.root, os.DirFS(given)); err != nil {
		t.Fatal(err)
	}
	own := func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, nonRootUID, nonRootUID)
	}
	for _, top := range []string{"run", "etc"} {
		if _, err := os.Stat(filepath.Join(given, top)); err == nil {
			if err := filepath.WalkDir(filepath.Join(i.root, top), own); err != nil {
				t.Fatal(err)
			}
		}
	}
	env := environment(r, c, "/")
	for _, name := range []string{"PURSER_GRPC_ADDR", "PURSER_ADMIN_ADDR", "PURSER_METRICS_ADDR", "PURSER_HTTP_ADDR"} {
		env[name] = "127.0.0.1:0"
	}
	env["PURSER_GRPC_HEALTH_ADDR"] = freeAddr(t)
	env["PURSER_SHUTDOWN_NOTICE"] = "0s"
	p := start(t, i.command(t, env, c.Args...))
	p.waits(t, func() *exec.Cmd { return i.command(t, env, "healthcheck") })
	p.stop(t)
	if log := p.log.String(); !strings.Contains(log, `"missing":"postgres"`) {
		t.Errorf("it does not say what it waits for:\n%s", log)
	}
}
