package deploy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/rccs-io/rccs/internal/need"
)

const (
	chart = "helm/rccs"
	plain = "kubernetes/rccs.yaml"
)

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

// object is one of the manifests, as far as the tests read it.
type object struct {
	Kind     string `yaml:"kind"`
	Metadata struct {
		Name string `yaml:"name"`
	} `yaml:"metadata"`
	Data map[string]string `yaml:"data"`
	Spec struct {
		Replicas                 int                                        `yaml:"replicas"`
		ServiceName              string                                     `yaml:"serviceName"`
		PodManagementPolicy      string                                     `yaml:"podManagementPolicy"`
		MaxUnavailable           any                                        `yaml:"maxUnavailable"`
		ClusterIP                string                                     `yaml:"clusterIP"`
		PublishNotReadyAddresses bool                                       `yaml:"publishNotReadyAddresses"`
		MinReplicas              int                                        `yaml:"minReplicas"`
		VolumeClaimTemplates     []struct{ Metadata struct{ Name string } } `yaml:"volumeClaimTemplates"`
		Template                 struct{ Spec podSpec }                     `yaml:"template"`
	} `yaml:"spec"`
}

// podSpec is how a pod is run.
type podSpec struct {
	EnableServiceLinks *bool `yaml:"enableServiceLinks"`
	SecurityContext    struct {
		RunAsNonRoot bool   `yaml:"runAsNonRoot"`
		RunAsUser    uint32 `yaml:"runAsUser"`
		FSGroup      uint32 `yaml:"fsGroup"`
	} `yaml:"securityContext"`
	Containers []containerSpec `yaml:"containers"`
	Volumes    []struct {
		Name      string `yaml:"name"`
		ConfigMap *struct {
			Name string `yaml:"name"`
		} `yaml:"configMap"`
		Secret *struct {
			SecretName  string `yaml:"secretName"`
			DefaultMode int    `yaml:"defaultMode"`
		} `yaml:"secret"`
	} `yaml:"volumes"`
}

type containerSpec struct {
	Args []string `yaml:"args"`
	Env  []struct {
		Name      string `yaml:"name"`
		Value     string `yaml:"value"`
		ValueFrom *struct {
			FieldRef struct {
				FieldPath string `yaml:"fieldPath"`
			} `yaml:"fieldRef"`
		} `yaml:"valueFrom"`
	} `yaml:"env"`
	Ports []struct {
		Name          string `yaml:"name"`
		ContainerPort int    `yaml:"containerPort"`
	} `yaml:"ports"`
	Readiness probe `yaml:"readinessProbe"`
	Liveness  probe `yaml:"livenessProbe"`
	Lifecycle struct {
		PreStop struct {
			Exec struct{ Command []string }
		} `yaml:"preStop"`
	} `yaml:"lifecycle"`
	SecurityContext struct {
		ReadOnlyRootFilesystem bool `yaml:"readOnlyRootFilesystem"`
	} `yaml:"securityContext"`
	VolumeMounts []struct {
		Name      string `yaml:"name"`
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	HTTPGet struct {
		Path string `yaml:"path"`
		Port string `yaml:"port"`
	} `yaml:"httpGet"`
}

// manifests are those of the plain file, by kind and name.
func manifests(t *testing.T) map[string]*object {
	t.Helper()
	text, err := os.ReadFile(plain)
	check(t, err)
	all := make(map[string]*object)
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		o := &object{}
		err := decoder.Decode(o)
		if errors.Is(err, io.EOF) {
			return all
		}
		check(t, err)
		if o.Kind != "" {
			all[o.Kind+"/"+o.Metadata.Name] = o
		}
	}
}

func TestTheManifestsSayWhatDocsPromise(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	for _, name := range []string{
		"StatefulSet/rccs-server", "Deployment/rccs-edge", "HorizontalPodAutoscaler/rccs-edge", "PodDisruptionBudget/rccs-server",
		"PodDisruptionBudget/rccs-edge", "NetworkPolicy/rccs-server", "NetworkPolicy/rccs-edge", "Service/rccs-server", "ServiceAccount/rccs",
	} {
		if all[name] == nil {
			t.Fatalf("there is no %s", name)
		}
	}
	if s := all["StatefulSet/rccs-server"].Spec; s.Replicas != 3 || s.PodManagementPolicy != "Parallel" || len(s.VolumeClaimTemplates) != 1 {
		t.Errorf("servers: %+v", s)
	}
	if s := all["Service/rccs-server"].Spec; s.ClusterIP != "None" || !s.PublishNotReadyAddresses {
		t.Errorf("servers do not find each other before they are ready: %+v", s)
	}
	if n := all["HorizontalPodAutoscaler/rccs-edge"].Spec.MinReplicas; n < 2 {
		t.Errorf("%d edge: its devices would have nowhere to go", n)
	}
	for _, name := range []string{"StatefulSet/rccs-server", "Deployment/rccs-edge"} {
		spec := all[name].Spec.Template.Spec
		c := spec.Containers[0]
		if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
			t.Errorf("%s: addresses of services become settings of rccs", name)
		}
		if !spec.SecurityContext.RunAsNonRoot || spec.SecurityContext.FSGroup == 0 || !c.SecurityContext.ReadOnlyRootFilesystem {
			t.Errorf("%s: %+v", name, spec.SecurityContext)
		}
		if c.Readiness.HTTPGet.Path != "/readyz" || c.Liveness.HTTPGet.Path != "/healthz" {
			t.Errorf("%s: probes %+v, %+v", name, c.Readiness, c.Liveness)
		}
	}
}
