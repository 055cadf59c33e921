# Sourced by tests/run: the parts of a real Kubernetes, built from their Go modules. Each is one entry of the cache, keyed by its
# version and by what is in its folder here, so a change of either builds it anew.

# Prints FOLDER-VERSION-HASH for a folder of tests/tools.
tool_key() {
  printf '%s-%s-%s\n' "$1" "$2" "$(find "tests/tools/$1" -type f | LC_ALL=C sort | xargs cat | sha256sum | cut -c1-8)"
}

# Prints the version of a module that a folder's go.mod asks for.
pinned() { sed -n "s#^\(require\)\?[[:space:]]*$2 v\([0-9.]*\).*#\2#p" "tests/tools/$1/go.mod"; }

# `go build` in a folder of tests/tools: static, without paths of this machine. The collector is told to take memory rather than time.
go_build() {
  local folder=$1; shift
  (cd "tests/tools/$folder" && CGO_ENABLED=0 GOGC=400 go build -mod=readonly -buildvcs=false -trimpath "$@")
}

build_kube() {
  local version=${KUBE_VERSION#v} package flags="-s -w" part
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags="$flags -X $package.gitVersion=v$version -X $package.gitMajor=${version%%.*} -X $package.gitMinor=$(cut -d. -f2 <<<"$version")"
    flags="$flags -X $package.gitTreeState=clean"
  done
  go_build kube -ldflags "$flags" -o "$OUT/bin/kube" ./multi
  for part in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do ln -s kube "$OUT/bin/$part"; done
  go_build kube -ldflags '-s -w' -o "$OUT/bin/etcd" go.etcd.io/etcd/server/v3
  go_build kube -ldflags '-s -w' -o "$OUT/bin/kstatus" ./kstatus
}
build_coredns() { go_build coredns -ldflags '-s -w' -o "$OUT/bin/coredns" .; }
build_helm() { go_build helm -ldflags '-s -w' -o "$OUT/bin/helm" helm.sh/helm/v4/cmd/helm; }
build_argo_health() { go_build argo-health -ldflags '-s -w' -o "$OUT/bin/argo-health" .; }

# Builds what is not there yet and makes one folder of links to all of it: $SLUICE_TEST_CACHE/cluster/bin.
build_cluster_tools() {
  local KUBE_VERSION entry entries=()
  KUBE_VERSION=$(pinned kube k8s.io/kubernetes)
  entry=$(tool_key kube "$KUBE_VERSION"); entries+=("$entry"); once "$entry" build_kube
  entry=$(tool_key coredns "$(pinned coredns github.com/coredns/coredns)"); entries+=("$entry"); once "$entry" build_coredns
  entry=$(tool_key helm "$(pinned helm helm.sh/helm/v4)"); entries+=("$entry"); once "$entry" build_helm
  entry=$(tool_key argo-health 1); entries+=("$entry"); once "$entry" build_argo_health
  mkdir -p "$SLUICE_TEST_CACHE/cluster/bin"
  for entry in "${entries[@]}"; do ln -sfn "$SLUICE_TEST_CACHE/$entry"/bin/* "$SLUICE_TEST_CACHE/cluster/bin/"; done
}
