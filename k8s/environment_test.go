package k8s_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// programs builds the services once, as `make images` does. The go command
// rebuilds only what has changed.
var programs = sync.OnceValue(func() error {
	if out, err := exec.Command("make", "-C", "..", "--no-print-directory", "binaries").CombinedOutput(); err != nil {
		return fmt.Errorf("make binaries: %w\n%s", err, out)
	}
	return nil
})

// program is the path of a service's program.
func program(t *testing.T, service string) string {
	t.Helper()
	if err := programs(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join("..", ".build", "images", service, service)
}

// externalSecretValues are values, by key, for the Secrets that an overlay expects
// but doesn't have itself.
func externalSecretValues() map[string]string {
	return map[string]string{
		"database-url":   "postgres://user:password@10.0.0.5:5432/database?sslmode=verify-full",
		"redis-url":      "rediss://:password@10.0.0.6:6379/0",
		"kek":            strings.Repeat("A", 43) + "=",
		"webhooks-kek":   strings.Repeat("B", 43) + "=",
		"smtp-password":  "password",
		"secret":         "purser_svc_" + strings.Repeat("A", 43),
		"chain-rpc-urls": "1=https://203.0.113.7,137=https://203.0.113.8,10=http://192.0.2.10:8545",
		"price-url":      "https://203.0.113.9",
		"tls.crt":        "certificate", "tls.key": "key", "ca.crt": "certificate",
	}
}

// mount writes the files that a container mounts into a new folder, under their
// paths in the container, and returns the folder.
func mount(t *testing.T, r rendering, known secrets, w workload, c *corev1.Container) string {
	t.Helper()
	dir := t.TempDir()
	put := func(path, name string, content []byte) {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range c.VolumeMounts {
		for _, v := range w.pod.Spec.Volumes {
			switch {
			case v.Name != m.Name:
			case v.Secret != nil:
				s, ok := named[*corev1.Secret](r, v.Secret.SecretName)
				for _, key := range known[v.Secret.SecretName] {
					if ok {
						put(m.MountPath, key, s.Data[key])
					} else {
						put(m.MountPath, key, []byte(externalSecretValues()[key]))
					}
				}
			case v.ConfigMap != nil:
				s, _ := named[*corev1.ConfigMap](r, v.ConfigMap.Name)
				for key, content := range s.Data {
					put(m.MountPath, key, []byte(content))
				}
			}
		}
	}
	return dir
}

// environment returns a container's environment as the kubelet would build it;
// paths of mounted files point into dir.
func environment(r rendering, c *corev1.Container, dir string) map[string]string {
	env := map[string]string{}
	for _, from := range c.EnvFrom {
		if m, ok := named[*corev1.ConfigMap](r, from.ConfigMapRef.Name); ok {
			for name, value := range m.Data {
				env[name] = value
			}
		}
	}
	for _, e := range c.Env {
		value := e.Value
		if f := e.ValueFrom; f != nil && f.ResourceFieldRef != nil {
			value = strconv.FormatInt(resourceShare(c, f.ResourceFieldRef), 10)
		}
		for name, known := range env {
			value = strings.ReplaceAll(value, "$("+name+")", known)
		}
		env[e.Name] = value
	}
	for name, value := range env {
		for _, m := range c.VolumeMounts {
			if strings.HasPrefix(value, m.MountPath+"/") {
				env[name] = filepath.Join(dir, value)
			}
		}
	}
	return env
}

// resourceShare returns a container's limit divided by the selector's divisor,
// rounded up, as the kubelet does.
func resourceShare(c *corev1.Container, f *corev1.ResourceFieldSelector) int64 {
	limit, _ := strings.CutPrefix(f.Resource, "limits.")
	q := c.Resources.Limits[corev1.ResourceName(limit)]
	d := f.Divisor
	if d.IsZero() {
		d = resource.MustParse("1")
	}
	return (q.Value() + d.Value() - 1) / d.Value()
}

// effectiveConfiguration returns the configuration that a service reads from an
// environment, with secrets masked, or the error that the service reports.
func effectiveConfiguration(t *testing.T, service string, env map[string]string) (map[string]string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t, service), "config")
	cmd.Env = []string{}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		found[name] = value
	}
	return found, nil
}

// configurationFindings returns what is wrong with a container's environment,
// ports, probes and limits.
func configurationFindings(t *testing.T, r rendering, known secrets, w workload,
	c *corev1.Container) (found []string) {
	t.Helper()
	want := func(good bool, format string, args ...any) {
		if !good {
			found = append(found, w.name+": "+c.Name+": "+fmt.Sprintf(format, args...))
		}
	}
	service := w.label("name")
	env := environment(r, c, mount(t, r, known, w, c))
	has, err := effectiveConfiguration(t, service, env)
	if err != nil {
		return []string{w.name + ": " + c.Name + ": " + err.Error()}
	}
	for name, value := range env {
		read := strings.TrimSuffix(name, "_FILE")
		if _, ok := has[read]; strings.HasPrefix(name, "PURSER_") {
			want(ok, "%s is not a variable that %s reads", name, service)
		}
		if _, serves := w.object.(*appsv1.Deployment); serves && filepath.IsAbs(value) {
			_, err := os.Stat(value)
			want(err == nil, "%s: %v", name, err)
		}
	}
	if _, ok := w.object.(*appsv1.Deployment); !ok {
		return found
	}
	for variable, port := range map[string]string{"PURSER_GRPC_ADDR": "grpc", "PURSER_GRPC_HEALTH_ADDR": "health",
		"PURSER_ADMIN_ADDR": "admin", "PURSER_METRICS_ADDR": "metrics", "PURSER_HTTP_ADDR": "http"} {
		n, named := containerPort(w, port)
		if addr, ok := has[variable]; ok || named {
			want(addr == fmt.Sprintf(":%d", n), "%s is %s, and the port %s is %d", variable, addr, port, n)
		}
	}
	duration := func(variable string) time.Duration {
		d, err := time.ParseDuration(has[variable])
		want(err == nil, "%s: %v", variable, err)
		return d
	}
	notice, drain := duration("PURSER_SHUTDOWN_NOTICE"), duration("PURSER_SHUTDOWN_DRAIN")
	probe := c.ReadinessProbe
	noticed := time.Duration(probe.PeriodSeconds*probe.FailureThreshold+probe.TimeoutSeconds) * time.Second
	want(notice >= noticed, "its readiness probe can take %s to fail, and PURSER_SHUTDOWN_NOTICE is %s", noticed,
		notice)
	want(drain >= duration("PURSER_GRPC_MAX_TIMEOUT"), "PURSER_GRPC_MAX_TIMEOUT is longer than the %s of draining",
		drain)
	// After draining, a process takes up to one second to close, five to flush
	// telemetry, and one to begin its shutdown.
	grace := time.Duration(*w.pod.Spec.TerminationGracePeriodSeconds) * time.Second
	want(grace >= notice+drain+7*time.Second, "it is killed after %s, and may take %s, %s and 7s to end", grace,
		notice, drain)
	limit := c.Resources.Limits.Memory().Value()
	soft, err := strconv.ParseInt(env["GOMEMLIMIT"], 10, 64)
	want(err == nil && soft >= limit*85/100 && soft <= limit*96/100, "GOMEMLIMIT is %s of %d: want 85 to 96 %%",
		env["GOMEMLIMIT"], limit)
	return found
}

// mountableSecrets returns the Secrets that an overlay's pods can mount.
func mountableSecrets(t *testing.T, overlay string, r rendering) secrets {
	t.Helper()
	if overlay == "prod" {
		return exampleSecrets(t)
	}
	return renderedSecrets(r)
}

func TestWhatIsRenderedIsAConfigurationThatTheServiceTakes(t *testing.T) {
	t.Parallel()
	for _, overlay := range overlays() {
		r := render(t, overlay)
		known := mountableSecrets(t, overlay, r)
		for _, w := range workloads(r) {
			if !slices.Contains(services(), w.label("name")) {
				continue
			}
			for _, c := range w.containers() {
				report(t, overlay, configurationFindings(t, r, known, w, c))
				help, err := exec.CommandContext(t.Context(), program(t, w.label("name")), "help").Output()
				if err != nil || len(c.Args) == 0 || !strings.Contains("\n"+string(help), "\n"+c.Args[0]+" ") {
					t.Errorf("%s: %s: %q is no command of it (%v)", overlay, w.name, c.Args, err)
				}
			}
		}
	}
}

func TestProdIsEncryptedAndTellsNothingOfItself(t *testing.T) {
	for _, overlay := range overlays() {
		r := render(t, overlay)
		for _, service := range services() {
			d, _ := named[*appsv1.Deployment](r, service)
			w := workload{"Deployment " + service, d, &d.Spec.Template}
			c := w.containers()[0]
			has, err := effectiveConfiguration(t, service,
				environment(r, c, mount(t, r, mountableSecrets(t, overlay, r), w, c)))
			if err != nil {
				t.Fatal(err)
			}
			for _, variable := range []string{"PURSER_GRPC_PLAINTEXT", "PURSER_GRPC_REFLECTION",
				"PURSER_AUTH_PLAINTEXT", "PURSER_WALLET_PLAINTEXT"} {
				if value, ok := has[variable]; ok && (value == "true") != (overlay == "dev") {
					t.Errorf("%s: %s: %s=%s", overlay, service, variable, value)
				}
			}
		}
	}
}

// TestAMistakeOfTheConfigurationIsReported is the control of the test above.
func TestAMistakeOfTheConfigurationIsReported(t *testing.T) {
	for name, tt := range map[string]struct {
		mutate func(rendering, *appsv1.Deployment, *corev1.Container)
		want   string
	}{
		"a variable that nobody reads": {func(_ rendering, _ *appsv1.Deployment, c *corev1.Container) {
			c.Env = append(c.Env, corev1.EnvVar{Name: "PURSER_GRPC_REFLEXION", Value: "true"})
		}, "PURSER_GRPC_REFLEXION is not a variable"},
		"a value that is none": {func(_ rendering, _ *appsv1.Deployment, c *corev1.Container) {
			c.Env = append(c.Env, corev1.EnvVar{Name: "PURSER_CACHE_USER_TTL", Value: "soon"})
		}, "PURSER_CACHE_USER_TTL"},
		"a secret that isn't mounted": {func(_ rendering, _ *appsv1.Deployment,
			c *corev1.Container) {
			c.VolumeMounts = nil
		}, "PURSER_KEK_FILE"},
		"a file that isn't there": {func(_ rendering, _ *appsv1.Deployment, c *corev1.Container) {
			c.Env = append(c.Env, corev1.EnvVar{Name: "PURSER_GRPC_TLS_CERT", Value: "/run/secrets/tls/other.crt"})
		}, "other.crt"},
		"a port of another number": {func(_ rendering, _ *appsv1.Deployment,
			c *corev1.Container) {
			c.Ports[0].ContainerPort = 9100
		}, "PURSER_GRPC_ADDR is :9000"},
		"a short grace": {func(_ rendering, d *appsv1.Deployment, _ *corev1.Container) {
			*d.Spec.Template.Spec.TerminationGracePeriodSeconds = 46
		}, "killed after 46s"},
		"a probe that notices late": {func(_ rendering, _ *appsv1.Deployment,
			c *corev1.Container) {
			c.ReadinessProbe.PeriodSeconds = 10
		}, "its readiness probe can take"},
		"calls longer than the draining": {func(_ rendering, _ *appsv1.Deployment, c *corev1.Container) {
			c.Env = append(c.Env, corev1.EnvVar{Name: "PURSER_GRPC_MAX_TIMEOUT", Value: "31s"})
		}, "longer than the 30s"},
		"a memory limit that isn't told": {func(_ rendering, _ *appsv1.Deployment, c *corev1.Container) {
			c.Env = slices.DeleteFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "GOMEMLIMIT" })
		}, "GOMEMLIMIT"},
		"all of the memory": {func(_ rendering, _ *appsv1.Deployment, c *corev1.Container) {
			c.Env = append(c.Env, corev1.EnvVar{Name: "GOMEMLIMIT", Value: "$(MEMORY_LIMIT_MIB)MiB"})
		}, "GOMEMLIMIT"},
	} {
		t.Run(name, func(t *testing.T) {
			r := render(t, "prod")
			d, _ := named[*appsv1.Deployment](r, "auth")
			tt.mutate(r, d, &d.Spec.Template.Spec.Containers[0])
			w := workload{"Deployment auth", d, &d.Spec.Template}
			found := configurationFindings(t, r, exampleSecrets(t), w, w.containers()[0])
			if got := strings.Join(found, "\n"); !strings.Contains(got, tt.want) {
				t.Errorf("reported %q, want %q", got, tt.want)
			}
		})
	}
}
