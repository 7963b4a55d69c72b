package deploy_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"go.yaml.in/yaml/v3"
)

// plain are the manifests for those who have no Helm.
const plain = "kubernetes/rccs.yaml"

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
