# The front door. Every target sets up what it needs; root is needed for network namespaces.

CARGO ?= cargo
BIN := $(or $(CARGO_TARGET_DIR),target)/debug

.PHONY: all deps test-deps build demo test soak fuzz vectors pure lint bench docs deny clean

all: build

# Debian packages that the lab, the tests and the benchmarks run.
deps:
	@tests/deps.sh

build:
	$(CARGO) build --workspace --bins

# Four nodes, real Open vSwitch each, pods as namespaces: who reaches whom, and why.
demo: deps build
	$(BIN)/sdnctl lab demo --cluster manifests/demo

test: test-deps build pure target/os-ken/installed
	$(CARGO) test --workspace

# Another implementation of OpenFlow (PyPI, Apache-2.0): what it makes of our vectors is part of the tests.
target/os-ken/installed:
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "os-ken: missing: python3 with venv; run: apt-get install python3-venv" >&2; exit 3; }
	python3 -m venv --clear target/os-ken
	target/os-ken/bin/pip install -q --disable-pip-version-check os-ken==4.2.2
	@touch $@

# What only the tests run: an API server and its etcd, what container runtimes call plugins with, and other plugins.
test-deps: deps
	@tests/deps.sh test
	@tests/kube/build.sh
	@tests/cnitool/build.sh

# The same comparisons as in the tests, with many more random packets: the walker against a real switch in every plugin
# (PACKETS each), ours against the replaced system's dumps (PACKETS a dump), isolation, and the way from one set to
# another. OPERATIONS random ones on a node. Then the API server gone for as long as it takes to be noticed; and a cluster as large as they come.
PACKETS ?= 20000
OPERATIONS ?= 2000
soak: test-deps build
	OSDN_OPERATIONS=$(OPERATIONS) $(CARGO) test -p tests --test node soak -- --nocapture
	OSDN_PACKETS=$(PACKETS) $(CARGO) test --release -p tests --test walker --test reference --test isolation \
		--test halfway -- --nocapture
	$(CARGO) build --release --workspace --bins
	OSDN_OUTAGE=30 $(CARGO) test --release -p tests --test kube -- agents::
	OSDN_SCALE=100 $(CARGO) test --release -p tests --test kube -- scale::

# Every fuzz target of the protocol crates, or of one, for some time each: make fuzz CRATE=ovsdb SECONDS=300. What is
# found stays in CRATE/fuzz/artifacts. Needs a nightly compiler and cargo-fuzz.
CRATE ?= openflow ovsdb
SECONDS ?= 60
fuzz:
	@$(CARGO) +nightly fuzz --version >/dev/null 2>&1 || { \
		echo "fuzz: run: rustup toolchain install nightly && cargo install cargo-fuzz" >&2; exit 3; }
	@for crate in $(CRATE); do ( cd $$crate && for target in $$($(CARGO) +nightly fuzz list); do \
		mkdir -p fuzz/corpus/$$target fuzz/seeds/$$target && \
		$(CARGO) +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-max_total_time=$(SECONDS) -max_len=4096 -print_final_stats=1 || exit 1; \
	done ) || exit 1; done

# How much of the test material of Open vSwitch (tests/*.at) and Ryu or os-ken (packet_data/of13) the codec reads and
# writes again, from checkouts of yours: make vectors OVS_SRC=../ovs RYU_SRC=../ryu.
vectors:
	@[ -n "$(OVS_SRC)$(RYU_SRC)" ] || { echo "vectors: run: make vectors OVS_SRC=DIR RYU_SRC=DIR" >&2; exit 2; }
	@$(CARGO) run -q -p openflow --example vectors -- $(if $(OVS_SRC),--ovs $(OVS_SRC)) $(if $(RYU_SRC),--ryu $(RYU_SRC))

# The protocol crates build without tokio; the pipeline has neither async nor I/O below it.
pure:
	$(CARGO) check -p openflow --no-default-features
	$(CARGO) check -p ovsdb --no-default-features
	@if $(CARGO) tree -p flowtables -e normal --prefix none | grep -E '^(tokio|mio|futures|nix|libc) '; then \
		echo "flowtables must not depend on these" >&2; exit 1; fi

# Figures, never assertions: machines are noisy.
bench: deps target/os-ken/installed
	@tests/deps.sh bench
	$(CARGO) build --release --workspace --bins
	$(CARGO) bench -p tests --bench cni_add --bench agent
	$(CARGO) bench -p ovsdb --bench side_by_side
	$(CARGO) bench -p openflow --bench codec --bench switch
	cd openflow/beside && $(CARGO) run -q --release
	$(CARGO) bench -p flowtables --bench pipeline

# docs/pipeline.md with its picture and docs/metrics.md from the code; tests say when they are stale.
docs:
	UPDATE_GOLDEN=1 $(CARGO) test -p flowtables --test pipeline_doc
	UPDATE_GOLDEN=1 $(CARGO) test -p controller --lib metrics

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# Licences and origin of every dependency, as deny.toml allows them.
deny:
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo "deny: run: cargo install cargo-deny --locked" >&2; exit 3; }
	$(CARGO) deny check licenses bans sources

clean:
	$(CARGO) clean
