# The two commands of README.md, and what CI runs.

CARGO ?= cargo

.PHONY: demo test check release bench bench-parts guard flame fuzz

# The main job with nothing to set up: the gateway in front of an embedded CRM.
demo:
	$(CARGO) run --locked --quiet -- demo $(ARGS)

# Everything. Installs what the tests need beyond Rust where it can, or says what to install.
test:
	tests/requirements.sh
	$(CARGO) test --locked

check:
	.ci/run

# The program as it is measured: built twice, the second time by what the first counted under load. bench/README.md.
release:
	bench/release

# Beside the HAProxy and nginx that Debian ships: bench/README.md. One table: make bench ARGS="--phases delete"
bench:
	bench/compare $(ARGS)

# The parts of a request by themselves.
bench-parts:
	$(CARGO) bench --locked

# The instructions of a request, against those that were accepted. To accept what is: make guard ARGS=--accept
guard:
	bench/guard $(ARGS)

# Where the instructions of a request go: docs/flame.svg.
flame:
	bench/flame $(ARGS)

# Needs a nightly toolchain and cargo-fuzz.
fuzz:
	cd fuzz && $(CARGO) +nightly fuzz run header -- -runs=10000000
	cd fuzz && $(CARGO) +nightly fuzz run date -- -runs=10000000
	cd fuzz && $(CARGO) +nightly fuzz run framing -- -runs=1000000 -max_len=1024 -dict=framing.dict
	cd fuzz && $(CARGO) +nightly fuzz run answer -- -runs=1000000 -max_len=1024 -dict=answer.dict
