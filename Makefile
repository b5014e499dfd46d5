# Needs Linux, make and Python 3.11 or newer. Docker tests also need root, dockerd and a static busybox; without, they
# skip. `make test-kubernetes` names the Debian packages that it needs.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

# The test bench: Prefect, and what stands in for AWS, in virtual environments of their own, never in the product's.
PREFECT := prefect==3.8.8 prefect-docker==0.7.4 prefect-kubernetes==0.8.0 prefect-aws==0.7.12 fastapi<0.150
PREFECT_30 := prefect==3.0.11 fastapi==0.115.6 pydantic<2.10
PREFECT_220 := prefect==2.20.25
MINISTACK := ministack==1.5.33 docker
MUTATION := mutmut==3.8.1 pytest==9.2.0 pytest-timeout==2.4.0
BENCH := .venvs/prefect/.has-3.8.8-docker-kubernetes-aws
EMULATOR := .venvs/ministack/.has-1.5.33
OLD_BENCH := .venvs/prefect-3.0/.has-3.0.11 .venvs/prefect-2.20/.has-2.20.25

.PHONY: help setup setup-old check lint test test-kubernetes test-old demo build audit mutate clean python

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: .venv/.stamp $(BENCH) $(EMULATOR) ## the package and its tools in .venv; Prefect 3.8.8 and an emulator of ECS in .venvs

setup-old: .venv/.stamp $(OLD_BENCH) ## Prefect 2.20 and 3.0 in .venvs

check: lint test ## everything that must pass before a change is offered

lint: .venv/.stamp ## format, lint, types, who imports whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup ## all tests but those on old servers and on a real Kubernetes API
	$(BIN)/pytest -m "not slow and not kubernetes"

test-kubernetes: setup ## the tests on a real kube-apiserver, which the first call builds (10 min; Debian 12)
	RECONCILER_TEST_APISERVER="$$(tests/kubernetes/apiserver/build.sh)" CI=true $(BIN)/pytest -m kubernetes

test-old: setup-old ## the tests on Prefect 2.20 and 3.0 servers
	$(BIN)/pytest -m slow

demo: setup ## a real flow run is killed, stays Running, and is settled
	$(BIN)/python -m demo.demo

build: .venv/.stamp ## dist/: the sdist, and the wheel built from it
	rm -rf dist
	$(BIN)/python -m build

audit: .venvs/audit/.has-pip-audit ## known vulnerabilities of the pinned dependencies; needs to reach an advisory database
	.venvs/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

mutate: .venvs/mutation/.has-3.8.1 ## mutation testing of what decides; what survives, and why
	.venvs/mutation/bin/python tests/mutation/run.py

clean: ## remove what make made
	rm -rf .venv .venvs dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found; install it, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }

.venv/.stamp: pyproject.toml constraints.txt | python
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docker,kubernetes,aws,dev]'
	@touch $@

.venvs/prefect/.has-%: | python
	$(call bench,.venvs/prefect,$(PREFECT))

.venvs/ministack/.has-%: | python
	$(call bench,.venvs/ministack,$(MINISTACK))

.venvs/prefect-3.0/.has-%: | python
	$(call bench,.venvs/prefect-3.0,$(PREFECT_30))

.venvs/prefect-2.20/.has-%: | python
	$(call bench,.venvs/prefect-2.20,$(PREFECT_220))

.venvs/audit/.has-%: | python
	$(call bench,.venvs/audit,pip-audit)

.venvs/mutation/.has-%: | python
	$(call bench,.venvs/mutation,$(MUTATION))

define bench
$(PYTHON) -m venv --clear $(1)
$(1)/bin/pip install --quiet $(foreach package,$(2),'$(package)')
@touch $@
endef
