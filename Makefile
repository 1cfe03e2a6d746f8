# Everything that one does with ocirt. `make demo` and `make test` do all the set-up on a fresh Debian 12 as root.

PYTHON ?= /usr/bin/python3
VENV ?= .venv
EXTRAS := test
REQUIREMENTS := run
BIN := $(VENV)/bin
COMMA := ,
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check
SHELL := /bin/bash
export CI

# What Debian has to bring, for each purpose. python3-dev brings the static library that the executable embeds.
PACKAGES_BUILD := python3 python3-venv python3-dev gcc libc6-dev libseccomp2
PACKAGES_DEMO := busybox-static
PACKAGES_TEST := busybox-static tini btrfs-progs uidmap iproute2 iptables mmdebstrap debian-archive-keyring procps git strace clang libclang-rt-14-dev \
	gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-riscv64-linux-gnu libc6-dev-riscv64-cross qemu-user
PACKAGES_BENCH := busybox-static iproute2 runc crun gcc libc6-dev patchelf
PACKAGES_ENGINES := busybox-static iproute2 iptables mmdebstrap debian-archive-keyring runc podman conmon netavark \
	aardvark-dns tini buildah containerd docker.io docker-registry skopeo umoci procps uidmap slirp4netns
PACKAGES_VM := mmdebstrap debian-archive-keyring qemu-system-x86 e2fsprogs

# Install the packages of $(1) that are missing, one make after the other. Without apt-get (not Debian) it is up to you.
need = @missing=$$(for p in $(1); do dpkg-query -W -f '$${Status}\n' $$p 2>/dev/null | grep -q ' installed' || echo $$p; done); \
	[ -z "$$missing" ] || ! command -v apt-get >/dev/null || \
	(echo "installing $$missing" && flock /var/lib/apt apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	flock /var/lib/apt apt-get install -qq -y --no-install-recommends $$missing >/dev/null)

.PHONY: help demo test build dist venv lint fuzz conformance engines runtime-tools bench bench-library bench-cgroups bench-engines bench-manager bench-rootless rootless-table vm-test bare bare-test clean

help: ## this list
	@sed -n 's/^\([a-z -]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | expand -t 16

demo: ## install what is missing, build, and run a container, shown step by step; an image from a registry
	$(call need,$(PACKAGES_BUILD) $(PACKAGES_DEMO))
	@$(MAKE) --no-print-directory build REQUIREMENTS=manager
	@docs/demo.sh $(BIN)/ocirt

test: ## install what is missing, build, and pass all tests
	$(call need,$(PACKAGES_BUILD) $(PACKAGES_TEST))
	@$(MAKE) --no-print-directory venv
	tests/criu/fetch
	tests/roots
	tests/isolate $(BIN)/pytest $(PYTEST_ARGS)
	KEEP_UNIFIED=1 tests/isolate $(BIN)/pytest tests/runtime tests/security/test_runc_cgroups.py conformance $(PYTEST_ARGS)

build: $(VENV)/bin/pip ## compile and install into .venv
	@rm -rf build *.egg-info
	@$(INSTALL) --require-hashes -r requirements/build.txt -r requirements/$(REQUIREMENTS).txt
	@$(INSTALL) --no-build-isolation --no-deps .

dist: ## one executable file that needs no Python where it runs: dist/ocirt
	$(call need,$(PACKAGES_BUILD))
	@$(MAKE) --no-print-directory build
	@$(BIN)/python ocirt/packaging/dist.py dist/ocirt
	@$(BIN)/python ocirt/packaging/sbom.py dist/ocirt dist/ocirt.sbom.json

venv: $(VENV)/bin/pip ## the same, with what the tests need
	@rm -rf build *.egg-info
	@$(INSTALL) --require-hashes -r requirements/build.txt -r requirements/$(subst $(COMMA),-,$(EXTRAS)).txt
	@$(INSTALL) --no-build-isolation --no-deps .

$(VENV)/bin/pip:
	@$(PYTHON) -m venv $(VENV)

lint: venv ## formatting, lint, types and layers alone
	$(BIN)/pytest tests/test_lint.py tests/test_layers.py

fuzz: venv ## a minute of fuzzing in all
	tests/fuzz/run.sh 60

conformance: venv ## our own tests of the specification
	tests/isolate $(BIN)/pytest conformance

engines: ## podman, buildah, containerd, CRI and dockerd on runc and on ocirt: some ten minutes
	$(call need,$(PACKAGES_BUILD) $(PACKAGES_ENGINES) containernetworking-plugins)
	@$(MAKE) --no-print-directory venv EXTRAS=test,engines
	tests/criu/fetch
	tests/isolate $(BIN)/pytest tests/engines $(PYTEST_ARGS)

.PHONY: engines-trixie engines-sid
engines-trixie engines-sid: ## the same with the engines of another Debian, in a root of its own
	$(call need,$(PACKAGES_BUILD) mmdebstrap debian-archive-keyring iproute2)
	@$(MAKE) --no-print-directory $(VENV)/bin/pip
	tests/criu/fetch
	tests/engines/suite.sh $(@:engines-%=%) $(PYTEST_ARGS)

runtime-tools: build ## run a built runtime-tools checkout: make runtime-tools DIR=its-folder
	tests/isolate conformance/run-runtime-tools $(BIN)/ocirt "$(DIR)"

bench: ## ocirt (dist/ocirt if it is there), crun and runc in turn: the table, dist/bench.json, the drawings in docs/
	$(call need,$(PACKAGES_BUILD) $(PACKAGES_BENCH))
	@$(MAKE) --no-print-directory build
	@tests/isolate $(BIN)/python bench/bench.py --ocirt $(firstword $(wildcard dist/ocirt) $(BIN)/ocirt) --draw docs $(BENCH_ARGS)

bench-library: ## containers from inside one Python process, beside crun's and runc's commands
	$(call need,$(PACKAGES_BUILD) $(PACKAGES_BENCH))
	@$(MAKE) --no-print-directory build
	@tests/isolate $(BIN)/python bench/library.py --ocirt $(BIN)/ocirt $(BENCH_ARGS)

bench-cgroups: ## the same for limits, update, events, and a thousand containers
	$(call need,$(PACKAGES_BUILD) $(PACKAGES_BENCH))
	@$(MAKE) --no-print-directory build
	@tests/isolate $(BIN)/python bench/cgroups.py --ocirt $(BIN)/ocirt $(BENCH_ARGS)

bench-rootless: ## the same as an ordinary user
	$(call need,$(PACKAGES_BUILD) $(PACKAGES_BENCH) uidmap)
	@$(MAKE) --no-print-directory venv
	@tests/isolate $(BIN)/python bench/rootless.py --ocirt $(BIN)/ocirt $(BENCH_ARGS)

rootless-table: ## what an ordinary user can have of ocirt, crun and runc: the tables of docs/rootless.md
	$(call need,$(PACKAGES_BUILD) $(PACKAGES_BENCH) uidmap)
	@$(MAKE) --no-print-directory venv
	@tests/isolate $(BIN)/python bench/rootless_table.py --ocirt $(BIN)/ocirt $(BENCH_ARGS)
	@tests/isolate $(BIN)/python bench/rootless_table.py --ocirt $(BIN)/ocirt --delegated $(BENCH_ARGS)

.PHONY: soak faults
soak: ## ten thousand containers in sequence, two hundred at a time, and what has grown: docs/soak.md
	$(call need,$(PACKAGES_BUILD) $(PACKAGES_DEMO))
	@$(MAKE) --no-print-directory build
	@tests/isolate $(BIN)/python bench/soak.py --ocirt $(BIN)/ocirt --write docs/soak.md $(BENCH_ARGS)

faults: venv ## every system call fails, every errno of it; random commands for two minutes
	OCIRT_FAULTS=all tests/isolate $(BIN)/pytest tests/faults $(PYTEST_ARGS)

bench-engines: ## the same for `run --rm` under podman, containerd and dockerd
	$(call need,$(PACKAGES_BUILD) $(PACKAGES_ENGINES))
	@$(MAKE) --no-print-directory venv
	@tests/isolate $(BIN)/python bench/engines.py --ocirt $(BIN)/ocirt $(BENCH_ARGS)

bench-manager: ## ocim beside dockerd, podman, skopeo with umoci: pull, push, run, exec, ps, logs, memory
	$(call need,$(PACKAGES_BUILD) $(PACKAGES_ENGINES))
	@$(MAKE) --no-print-directory venv
	@tests/isolate $(BIN)/python bench/manager.py --ocim $(BIN)/ocim $(BENCH_ARGS)

vm-test: ## cgroup v2 and systemd: the tests in a virtual machine
	$(call need,$(PACKAGES_VM))
	@$(MAKE) --no-print-directory build
	tests/vm/run.sh

bare: ## prove `make demo` in a bare Debian 12 made by mmdebstrap
	$(call need,mmdebstrap debian-archive-keyring git)
	tests/bare.sh demo

bare-test: ## the same for `make test`: some ten minutes
	$(call need,mmdebstrap debian-archive-keyring git)
	tests/bare.sh test

clean:
	rm -rf build dist *.egg-info $(VENV)
