//go:build release

// These need programs that take minutes to build, and the sources of Kubernetes:
// `make release-check` builds them, and `make test` does not.

package deploy_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rccs-io/rccs/internal/need"
)

const chart = "helm/rccs"

// tool is a program that `make deploy-tools` installs.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(need.Program(t, "../bin/"+name, name))
	check(t, err)
	return path
}

// settings are values of the chart that the tests try, beside its own.
var settings = map[string][]string{
	"as it is": nil,
	"with everything": {
		"--set", "secrets.store=rccs-store,edge.tlsSecret=rccs-tls,image.tag=v1,edge.trustedProxies={10.0.0.0/8,192.168.0.1}",
		"--set", "edge.allowOrigins={https://app.example.com},server.env.RCCS_LOG_LEVEL=debug,edge.env.RCCS_MAX_TOPICS=100",
		"--set", "imagePullSecrets[0].name=pull,server.nodeSelector.disk=fast,server.storage.className=fast,server.replicas=5",
		"--set", "edge.service.type=LoadBalancer,edge.service.annotations.who=me,networkPolicy.edgeFrom[0].ipBlock.cidr=10.0.0.0/8",
	},
	"with little": {
		"--set", "edge.autoscaling.enabled=false,networkPolicy.enabled=false,prometheusAnnotations=false",
		"--set-json", "topologyKeys=[]",
	},
}

// rendered is the chart with some values, in the namespace rccs.
func rendered(t *testing.T, values ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, "helm"), append([]string{"template", "rccs", chart, "--namespace", "rccs", "--kube-version", kubernetesVersion(t)}, values...)...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil || complaint.Len() > 0 {
		t.Fatalf("helm template %q: %v\n%s", values, err, &complaint)
	}
	return out
}

func TestThePlainManifestsAreTheChart(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(plain)
	check(t, err)
	_, text, _ = bytes.Cut(text, []byte("\n\n")) // what the file says of itself
	if want := rendered(t); !bytes.Equal(text, want) {
		t.Errorf("deploy/%s is not what the chart makes: run make manifests", plain)
	}
}

func TestTheChartPassesItsLinter(t *testing.T) {
	t.Parallel()
	helm := tool(t, "helm")
	for name, values := range settings {
		out, err := exec.CommandContext(t.Context(), helm, append([]string{"lint", "--strict", "--kube-version", kubernetesVersion(t), chart}, values...)...).CombinedOutput()
		if err != nil || bytes.Contains(out, []byte("[WARNING]")) {
			t.Errorf("%s: helm lint: %v\n%s", name, err, out)
		}
	}
	// The schema of its values refuses what would be ignored.
	for _, wrong := range []string{"server.replicas=2", "edge.autoscalling.enabled=true", "secrets.keys=", "edge.env.LISTEN=x"} {
		if out, err := exec.CommandContext(t.Context(), helm, "lint", chart, "--set", wrong).CombinedOutput(); err == nil {
			t.Errorf("--set %s is taken:\n%s", wrong, out)
		}
	}
}

func TestTheManifestsFitTheAPIOfKubernetes(t *testing.T) {
	t.Parallel()
	kubeconform := tool(t, "kubeconform")
	location := filepath.Join(schemas(t), "{{.ResourceKind}}{{.KindSuffix}}.json")
	validate := func(manifests []byte) ([]byte, error) {
		cmd := exec.CommandContext(t.Context(), kubeconform, "-strict", "-summary", "-schema-location", location, "-")
		cmd.Stdin = bytes.NewReader(manifests)
		return cmd.CombinedOutput()
	}
	for name, values := range settings {
		out, err := validate(rendered(t, values...))
		if err != nil || !bytes.Contains(out, []byte("Skipped: 0")) {
			t.Errorf("%s: kubeconform: %v\n%s", name, err, out)
		}
	}
	wrong := bytes.Replace(rendered(t), []byte("podManagementPolicy"), []byte("podManagmentPolicy"), 1)
	if out, err := validate(wrong); err == nil {
		t.Errorf("a member that Kubernetes does not have is taken:\n%s", out)
	}
}

// kubernetesVersion is the one that the manifests are checked for, such as 1.37.2.
func kubernetesVersion(t *testing.T) string {
	t.Helper()
	versions, err := os.ReadFile("../tools/versions.mk")
	check(t, err)
	version := regexp.MustCompile(`(?m)^KUBERNETES_VERSION *:= *v(\S+)`).FindSubmatch(versions)
	if version == nil {
		t.Fatal("tools/versions.mk has no KUBERNETES_VERSION")
	}
	return string(version[1])
}

// schemas writes one for each kind of Kubernetes, from the description of its API
// in the module of its sources, and returns the directory.
func schemas(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", "k8s.io/kubernetes@v"+kubernetesVersion(t))
	cmd.Dir = t.TempDir() // not our module, whose dependency it is not
	out, err := cmd.Output()
	var module struct{ Dir, Error string }
	if e := json.Unmarshal(out, &module); err != nil || e != nil || module.Dir == "" {
		need.Missing(t, "the module k8s.io/kubernetes cannot be had: "+module.Error)
	}
	text, err := os.ReadFile(filepath.Join(module.Dir, "api/openapi-spec/swagger.json"))
	check(t, err)
	var api struct {
		Definitions map[string]map[string]any `json:"definitions"`
	}
	check(t, json.Unmarshal(text, &api))
	dir := t.TempDir()
	for _, d := range api.Definitions {
		if _, open := d["additionalProperties"]; d["properties"] != nil && !open {
			d["additionalProperties"] = false
		}
	}
	// What may be a number or a text is described as a text.
	api.Definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = map[string]any{"type": []string{"string", "integer"}}
	api.Definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = map[string]any{"type": []string{"string", "number"}}
	all, err := json.Marshal(map[string]any{"definitions": api.Definitions})
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "definitions.json"), all, 0o600))
	for name, d := range api.Definitions {
		kinds, ok := d["x-kubernetes-group-version-kind"].([]any)
		if !ok {
			continue
		}
		for _, k := range kinds {
			gvk, ok := k.(map[string]any)
			if !ok {
				continue
			}
			group, _, _ := strings.Cut(gvk["group"].(string), ".")
			if group != "" {
				group += "-"
			}
			file := strings.ToLower(gvk["kind"].(string)) + "-" + group + strings.ToLower(gvk["version"].(string)) + ".json"
			schema, err := json.Marshal(map[string]any{"$ref": "definitions.json#/definitions/" + name})
			check(t, err)
			check(t, os.WriteFile(filepath.Join(dir, file), schema, 0o600))
		}
	}
	return dir
}
