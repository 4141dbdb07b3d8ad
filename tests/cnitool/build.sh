#!/bin/sh
# Builds cnitool into DIR (default: target/cnitool of the checkout) unless it is there already.
set -eu
cd "$(dirname "$0")"
dir=${1:-${CARGO_TARGET_DIR:-../../target}/cnitool}
version=$(sed -n 's/^require .* \(v[0-9.]*\).*$/\1/p' go.mod)

if [ "$(cat "$dir/version" 2>/dev/null)" = "$version" ] && [ -x "$dir/cnitool" ]; then
    exit 0
fi
if ! command -v go >/dev/null 2>&1; then
    echo "cnitool: go is missing: install Go 1.25 or newer" >&2
    exit 3
fi
mkdir -p "$dir"
go build -trimpath -o "$dir/" github.com/containernetworking/cni/cnitool
echo "$version" > "$dir/version"
