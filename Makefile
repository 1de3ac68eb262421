# Every target makes what it needs inside the checkout; `make help` lists them.
SHELL := /bin/sh
# The interpreter of the environments. Where none is named, the gateway, which runs on little else, has the faster of two.
PYTHON ?= python3
GATEWAY_PYTHON := $(PYTHON) $(if $(filter file,$(origin PYTHON)),/usr/bin/python3)
VENV = python=$$(deploy/fastest-python $(1)) && "$$python" -m venv --clear $(2)
VENVS := .venvs
GATEWAY := $(VENVS)/gateway
ENGINE := $(VENVS)/engine
QUANTIZE := $(VENVS)/quantize
MLFLOW := $(VENVS)/mlflow
BIN := $(GATEWAY)/bin
PIP := -m pip --disable-pip-version-check --quiet --quiet install
CONFIG ?= router_config
# The gateway compiled, in a copy of its own, so that no edit of a source is ever hidden by an older compiled module.
# `make PURE=1 ...` runs the sources as they are.
COMPILED := build/compiled
ifeq ($(PURE),)
FAST := PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(COMPILED):$(CURDIR)
endif
# Tests of whole processes run on the gateway that users run, compiled; the others, with some of the former, on the sources.
AS_SERVED := $(addprefix tests/,chaos contract redis wire)
AS_WRITTEN := $(filter-out $(AS_SERVED) %/__pycache__,$(patsubst %/,%,$(wildcard tests/*/))) \
	$(addprefix tests/wire/test_,relay.py refusals.py)
# Without those whose stand-ins take the place of a concrete class: a compiled caller takes no other.
AS_COMPILED := $(addprefix tests/unit/gateway/,cache downstream engines ledger protocol routing tenancy upstream \
	fleet/test_room.py fleet/test_room_stateful.py \
	$(addprefix test_,$(addsuffix .py,decision dispatch logline logs series spelling telemetry)))

.PHONY: help demo up compiled test test-quick test-compiled check format bench soak limits crash attribution audit simulate fuzz clean gateway-env engine-env quantize-env mlflow-env models node-env

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

demo: compiled engine-env quantize-env models ## everything, from nothing: workers, gateway and a tour of it
	@$(FAST) $(BIN)/python -m workers.demo.tour --config $(CONFIG)

up: compiled engine-env quantize-env models ## the demo's workers and gateway, without the tour
	@$(FAST) $(BIN)/tollgate up --config $(CONFIG)

test: compiled engine-env quantize-env mlflow-env models node-env ## the whole suite, real Redis and real vLLM included
	@deploy/need redis-server postgresql openssl chromium
	$(BIN)/python -m pytest $(AS_WRITTEN)
	$(FAST) $(BIN)/python -m pytest $(AS_SERVED)

test-quick: compiled ## only what needs no engine
	@deploy/need redis-server postgresql openssl chromium
	$(BIN)/python -m pytest -m "not engine and not node and not mlflow" $(AS_WRITTEN)
	$(FAST) $(BIN)/python -m pytest -m "not engine and not node and not mlflow" $(AS_SERVED)

test-compiled: compiled ## the data plane's unit tests once more, on its compiled form
	$(FAST) $(BIN)/python -m pytest $(AS_COMPILED)

check: gateway-env ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: gateway-env ## writes the format that check asks for
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: compiled ## the gateway beside its peers: a table and a plot in loadtests/results
	$(FAST) $(BIN)/python -m loadtests.bench

SECONDS ?= 600
fuzz: gateway-env ## looks for bytes that break the parsers' promises, SECONDS=600 for each of the two
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

soak: compiled ## a quarter of an hour under load with faults: nothing grows, and all books agree
	$(FAST) $(BIN)/python -m loadtests.soak

limits: compiled ## two minutes of limits shared by eight processes, with kills and pauses: none is ever passed
	@deploy/need redis-server
	$(FAST) $(BIN)/python -m loadtests.limits

crash: gateway-env ## kill -9 at every boundary of the ledger, over SQLite, PostgreSQL and Redis (half an hour)
	@deploy/need redis-server postgresql
	$(BIN)/python -m loadtests.crash

attribution: gateway-env ## bills held against the Shapley value, on a simulated engine (a few minutes)
	$(BIN)/python -m loadtests.attribution --seeds 2

TRACE ?=
simulate: gateway-env ## routing policies side by side in virtual time, TRACE=mooncake.jsonl for a recorded trace
	$(BIN)/python -m loadtests.simulate $(TRACE)

audit: compiled engine-env quantize-env models ## a thousand requests to a real engine, a fifth cut off: the ledger has its count of tokens
	$(FAST) $(BIN)/python -m loadtests.audit

clean: ## removes environments, caches and everything in var
	rm -rf $(VENVS) var build *.egg-info .pytest_cache .ruff_cache .hypothesis loadtests/results tests/contract/node/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

gateway-env: $(GATEWAY)/.ready
compiled: $(if $(FAST),$(COMPILED)/.ready,gateway-env)
engine-env: $(ENGINE)/.ready
quantize-env: $(QUANTIZE)/.ready
mlflow-env: $(MLFLOW)/.ready

$(COMPILED)/.ready: setup.py pyproject.toml $(shell find gateway -name __pycache__ -prune -o -print) $(GATEWAY)/.ready
	@echo "Compiling the data plane (half a minute)"
	@rm -rf $(COMPILED) && mkdir -p $(COMPILED)
	@cp -R gateway setup.py pyproject.toml README.md LICENSE $(COMPILED)
	@cd $(COMPILED) && $(CURDIR)/$(BIN)/python setup.py --quiet build_ext --inplace --parallel 2 >build.log 2>&1 || \
		{ tail -20 build.log; exit 1; }
	@grep '^Not compiled' $(COMPILED)/build.log || true
	@touch $@

$(GATEWAY)/.ready: deploy/locks/gateway.txt pyproject.toml
	@echo "Installing the gateway environment (about a minute)"
	@$(call VENV,$(GATEWAY_PYTHON),$(GATEWAY))
	@$(BIN)/python $(PIP) --no-deps -r deploy/locks/gateway.txt
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(ENGINE)/.ready: deploy/locks/engine.txt workers/vllm_plugin/pyproject.toml
	@echo "Installing the engine environment, vLLM for CPUs (a few minutes, most of it download)"
	@$(call VENV,$(PYTHON),$(ENGINE))
	@$(ENGINE)/bin/python $(PIP) --no-deps -r deploy/locks/engine.txt
	@$(ENGINE)/bin/python $(PIP) --no-deps --no-build-isolation ./workers/vllm_plugin
	@touch $@

$(QUANTIZE)/.ready: deploy/locks/quantize.txt
	@echo "Installing the quantization environment (a few minutes, most of it download)"
	@$(call VENV,$(PYTHON),$(QUANTIZE))
	@$(QUANTIZE)/bin/python $(PIP) --no-deps -r deploy/locks/quantize.txt
	@touch $@

$(MLFLOW)/.ready: deploy/locks/mlflow.txt
	@echo "Installing the MLflow server that tests register in (about a minute)"
	@$(call VENV,$(PYTHON),$(MLFLOW))
	@$(MLFLOW)/bin/python $(PIP) --no-deps -r deploy/locks/mlflow.txt
	@touch $@

models: gateway-env quantize-env
	@$(BIN)/python -m workers.demo.prepare

node-env: tests/contract/node/node_modules/.ready

tests/contract/node/node_modules/.ready: tests/contract/node/package-lock.json
	@deploy/need npm
	@cd tests/contract/node && npm ci --silent --no-audit --no-fund
	@touch $@
