# The front door. Every target sets up what it needs; root is needed for network namespaces.

CARGO ?= cargo
BIN := $(or $(CARGO_TARGET_DIR),target)/debug

.PHONY: all deps build demo test soak pure lint bench clean

all: build

# Debian packages that the lab, the tests and the benchmarks run.
deps:
	@tests/deps.sh

build:
	$(CARGO) build --workspace --bins

# Four nodes, real Open vSwitch each, pods as namespaces: who reaches whom, and why.
demo: deps build
	$(BIN)/sdnctl lab demo --cluster manifests/demo

test: deps build pure
	$(CARGO) test --workspace

# The same comparisons as in the tests, with many more random packets.
soak: deps
	OSDN_PACKETS=20000 $(CARGO) test --release -p tests --test walker -- --nocapture

# The protocol crates build without tokio; the pipeline has neither async nor I/O below it.
pure:
	$(CARGO) check -p openflow --no-default-features
	$(CARGO) check -p ovsdb --no-default-features
	@if $(CARGO) tree -p flowtables -e normal --prefix none | grep -E '^(tokio|mio|futures|nix|libc) '; then \
		echo "flowtables must not depend on these" >&2; exit 1; fi

# Figures, never assertions: machines are noisy.
bench: deps
	@tests/deps.sh bench
	$(CARGO) build --release --workspace --bins
	$(CARGO) bench -p tests --bench cni_add
	$(CARGO) bench -p ovsdb --bench side_by_side
	$(CARGO) bench -p openflow
	$(CARGO) bench -p flowtables --bench pipeline

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

clean:
	$(CARGO) clean
