# Programs that check what is deployed, by version. They are not in tools/go.mod
# because each brings hundreds of modules of its own, which would choose the
# versions of the others. `make release-tools` and `make deploy-tools` install
# them below ./bin.

GORELEASER_VERSION  := v2.17.0
GOMOD_SBOM_VERSION  := v1.10.0
HELM_VERSION        := v3.22.0
KUBECONFORM_VERSION := v0.8.0
# Kubernetes itself, of which only the description of its API is used.
KUBERNETES_VERSION  := v1.37.2
