#!/bin/sh
# Builds kube-apiserver and kubectl into DIR (default: target/kube/bin of the checkout) unless they are there already.
# The first build takes minutes, as it compiles most of Kubernetes; Go keeps the parts.
set -eu
cd "$(dirname "$0")"
dir=${1:-${CARGO_TARGET_DIR:-../../target}/kube/bin}
version=$(sed -n 's/^\tk8s\.io\/kubernetes \(v[0-9.]*\)$/\1/p' go.mod)

if [ "$(cat "$dir/version" 2>/dev/null)" = "$version" ] && [ -x "$dir/kube-apiserver" ] && [ -x "$dir/kubectl" ]; then
    exit 0
fi
if ! command -v go >/dev/null 2>&1; then
    echo "kube: go is missing: install Go 1.25 or newer, or set KUBEBUILDER_ASSETS to a directory with" \
        "kube-apiserver and kubectl" >&2
    exit 3
fi
echo "kube: building kube-apiserver and kubectl $version, once (several minutes)"
mkdir -p "$dir"
minor=${version#v*.}
package=k8s.io/component-base/version
go build -trimpath -o "$dir/" \
    -ldflags "-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%.*}" \
    ./kube-apiserver ./kubectl
echo "$version" > "$dir/version"
