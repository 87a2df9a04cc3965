package k8s_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// fakeKubectl stands for kubectl and a cluster: it writes each command into a file, and
// answers from the files of its folder: "rendered", "secrets" (names), "job-NAME" (a line
// for each time that its state is asked, the last one from then on) and "rollout-NAME".
const fakeKubectl = `#!/bin/sh
cd "$FAKE" || exit 9
echo "$*" >> commands
[ "$1" = -n ] && shift 2
case "$1 $2" in
"kustomize "*) cat rendered ;;
"get secret") grep -qx "$3" secrets ;;
"get job")
  head -1 "job-$3"
  if [ "$(wc -l < "job-$3")" -gt 1 ]; then sed -i 1d "job-$3"; fi ;;
"rollout status") [ ! -e "rollout-${3#deployment/}" ] ;;
"logs "*) echo "the log of $3" ;;
esac
`

// deploy runs `make deploy` of an overlay's folder on the fake, whose files are changed by change, and returns
// the commands and the output.
func deploy(t *testing.T, overlay, timeout string,
	change func(put func(name, content string))) (commands []string, output string, failed bool) {
	t.Helper()
	dir := t.TempDir()
	put := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	found, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), overlay)
	if err != nil {
		t.Fatal(err)
	}
	text, err := found.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	put("rendered", string(text))
	put("kubectl", fakeKubectl)
	put("secrets", strings.Join([]string{"auth-secrets", "auth-tls", "portfolio-secrets", "portfolio-service",
		"portfolio-tls", "wallet-secrets", "wallet-service", "wallet-tls"}, "\n"))
	for _, service := range services() {
		put("job-"+service+"-migrate", "/SuccessCriteriaMet Complete\n")
	}
	change(put)
	cmd := exec.CommandContext(t.Context(), "make", "-C", "..", "--no-print-directory", "deploy",
		"OVERLAY=k8s/"+overlay)
	cmd.Env = append(os.Environ(), "FAKE="+dir, "KUBECTL="+dir+"/kubectl", "JOB_TIMEOUT="+timeout, "MAKEFLAGS=")
	out, err := cmd.CombinedOutput()
	b, readErr := os.ReadFile(filepath.Join(dir, "commands"))
	if readErr != nil {
		t.Fatalf("%v\n%s", readErr, out)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n"), string(out), err != nil
}

// rolledOut reports whether the servers were applied.
func rolledOut(commands []string) bool {
	return slices.ContainsFunc(commands, func(c string) bool {
		return strings.HasPrefix(c, "apply ") && !strings.Contains(c, " -l ")
	})
}

func TestADeploymentMigratesBeforeItRollsOut(t *testing.T) {
	t.Parallel()
	commands, output, failed := deploy(t, "overlays/prod", "60", func(put func(name, content string)) {
		put("job-wallet-migrate", "/\n/\n1/\n1/SuccessCriteriaMet Complete\n") // its first pod failed
	})
	if failed {
		t.Fatal(output)
	}
	last := -1
	for _, want := range []string{
		"kustomize k8s/overlays/prod",
		"-n purser get secret wallet-tls",
		"-n purser delete job auth-migrate portfolio-migrate wallet-migrate --ignore-not-found",
		"app.kubernetes.io/component!=server",
		"-n purser get job wallet-migrate",
		"-n purser logs -l batch.kubernetes.io/job-name=wallet-migrate",
		"apply -f",
		"-n purser rollout status deployment/wallet",
	} {
		at := slices.IndexFunc(commands[last+1:], func(c string) bool { return strings.Contains(c, want) })
		if at < 0 {
			t.Fatalf("%q does not follow in\n%s", want, strings.Join(commands, "\n"))
		}
		last += 1 + at
	}
	if !strings.Contains(output, "released: auth portfolio wallet") {
		t.Error(output)
	}
}

// A Secret that an Ingress or a Certificate names may be made only after the release.
func TestADeploymentWithAllComponentsChecksTheSecretsOfPodsAlone(t *testing.T) {
	t.Parallel()
	commands, output, failed := deploy(t, writeOverlay(t, "", withComponents()...), "60", func(func(_, _ string)) {})
	if failed || !strings.Contains(output, "released: auth portfolio wallet") || !rolledOut(commands) {
		t.Error(output)
	}
	if slices.Contains(commands, "-n purser get secret auth-public-tls -o name") {
		t.Error("the Secret of the Ingress is asked for")
	}
}

func TestADeploymentStopsAtTheFirstFailure(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change    func(put func(name, content string))
		want      string
		rolledOut bool
	}{
		"a Job failed": {func(put func(name, content string)) {
			put("job-portfolio-migrate", "/\n3/FailureTarget Failed\n")
		}, "portfolio-migrate failed; see its log above", false},
		"a Job does not end": {func(put func(name, content string)) { put("job-auth-migrate", "/\n") },
			"auth-migrate did not end within 3 s", false},
		"a Secret is missing": {func(put func(name, content string)) { put("secrets", "auth-secrets\nauth-tls\n") },
			"has no Secret portfolio-secrets portfolio-service portfolio-tls wallet-secrets", false},
		"a rollout stands still": {func(put func(name, content string)) { put("rollout-wallet", "") },
			"wallet was not rolled out", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			commands, output, failed := deploy(t, "overlays/prod", "3", tt.change)
			if !failed || !strings.Contains(output, tt.want) || strings.Contains(output, "released:") ||
				rolledOut(commands) != tt.rolledOut {
				t.Errorf("failed %t, rolled out %t:\n%s", failed, rolledOut(commands), output)
			}
			const log = "the log of batch.kubernetes.io/job-name="
			if strings.HasPrefix(name, "a Job") && !strings.Contains(output, log) {
				t.Errorf("there is no log in\n%s", output)
			}
			if name == "a Secret is missing" && slices.ContainsFunc(commands, func(c string) bool {
				return strings.Contains(c, "delete") || strings.Contains(c, "apply")
			}) {
				t.Errorf("something was changed: %q", commands)
			}
		})
	}
}

// The component for Argo CD runs the Jobs in each sync, before the Deployments and after
// what they need.
func TestArgoCDMigratesBeforeItRollsOut(t *testing.T) {
	t.Parallel()
	dir := writeOverlay(t, "", "argocd")
	found, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	const prefix = "argocd.argoproj.io/"
	for _, r := range found.Resources() {
		a := r.GetAnnotations()
		want := map[string][3]string{"Job": {"Sync", "BeforeHookCreation", "1"},
			"Deployment": {"", "", "2"}}[r.GetKind()]
		if got := [3]string{a[prefix+"hook"], a[prefix+"hook-delete-policy"], a[prefix+"sync-wave"]}; got != want {
			t.Errorf("%s %s has %q, want %q", r.GetKind(), r.GetName(), got, want)
		}
	}
}
