# Compiles programs of the Go modules that go.mod names; sourced, not run.
# shellcheck shell=bash
# shellcheck disable=SC2154 # settings of lib.sh

export GOBIN=$bin CGO_ENABLED=0 GOWORK=off GOFLAGS='-mod=readonly -trimpath -buildvcs=false'

# Takes settings of the form PACKAGE.VARIABLE=VALUE, and prints the linker flags for them.
link_flags() { printf -- '-s -w'; printf -- ' -X %s' "$@"; }

# Compiles programs that give the version named, and are made for the version of Kubernetes here.
install_programs() {
  local version=$1 minor package settings=()
  shift
  minor=$(cut -d. -f2 <<<"$kubernetes_version")
  # The first decides besides which versions of the API a server has, so that it is the same for all.
  settings=("k8s.io/component-base/version.gitVersion=$kubernetes_version" "k8s.io/client-go/pkg/version.gitVersion=$version")
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    settings+=("$package.gitMajor=1" "$package.gitMinor=$minor" "$package.gitTreeState=archive" "$package.gitCommit=unknown")
  done
  for package in chartutil lint/rules; do # charts ask for it
    settings+=("helm.sh/helm/v3/pkg/$package.k8sVersionMajor=1" "helm.sh/helm/v3/pkg/$package.k8sVersionMinor=$minor")
  done
  settings+=(
    "helm.sh/helm/v3/internal/version.version=$(module_version helm.sh/helm/v3)"
    "github.com/containerd/containerd/v2/version.Version=$(module_version github.com/containerd/containerd/v2)"
    "github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=$(module_version github.com/containernetworking/plugins)"
    "sigs.k8s.io/cri-tools/pkg/version.Version=$(module_version sigs.k8s.io/cri-tools)"
    "main.VERSION=$(module_version github.com/rancher/local-path-provisioner)"
  )
  go install -ldflags "$(link_flags "${settings[@]}")" "$@"
}
