# Everything a person or a machine runs. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Where this is set, every process compiles all of our modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run demo test nightly explore chaos-long stress check audit format profile bench bench-quick bench-engines bench-gpu bench-overhead show zoo chaos chaos-quick clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(READY) ## Make .venv with everything pinned in constraints.txt

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make PYTHON=python3.12 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

run: setup ## Start everything, stream one real job per demo model, keep serving
	$(BIN)/truthgpt up --demo

demo: setup ## One job per demo model against a running server, or one of its own
	$(BIN)/truthgpt demo

check: setup ## Lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: ## Known vulnerabilities of what constraints.txt pins (needs the network; for CI)
	$(PYTHON) -m venv .audit
	.audit/bin/python -m pip install --quiet pip-audit
	.audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

format: setup ## Put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup check ## Checks, then all tests with coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist loadfile --no-loadscope-reorder
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=85

.PHONY: test-vllm
test-vllm: setup ## The vLLM engine against vLLM itself, minutes once .bench/environments holds its 3.5 GB
	$(BIN)/python -m tests.real_vllm

SEED ?= $(shell date +%s)
SCALE ?= 0.25
RUNS ?= 10
OUT ?= .bench/stress

nightly: explore chaos-long ## New seeds: every property with a thousand examples, then chaos at SCALE; hours (SEED=n repeats)

explore: setup ## Every property and random search with a thousand examples and a new seed (SEED=n repeats)
	@echo "seed $(SEED)"
	$(BIN)/python -m pytest -m "hypothesis or explores" --hypothesis-profile=nightly --hypothesis-seed=$(SEED) \
	  --timeout=7200 -n 2 || { echo "repeat with: make explore SEED=$(SEED)"; exit 1; }

chaos-long: setup ## The campaign at a quarter of its full size (SCALE=1: all of it), with a new seed
	$(BIN)/python -m tests.chaos --scale $(SCALE) --seed $(SEED) || { echo "repeat with: make chaos-long SCALE=$(SCALE) SEED=$(SEED)"; exit 1; }

stress: setup ## The suite RUNS times with a busy loop a core beside it; what failed, run by run
	$(BIN)/python -m tests.stress --runs $(RUNS) --out $(OUT)

bench: setup ## Beside its peers on this machine, about 15 minutes
	$(BIN)/python -m bench

bench-quick: setup ## The same in about 3 minutes
	$(BIN)/python -m bench --quick

bench-engines: setup ## The engines beside static batches and plain transformers, about 6 minutes
	$(BIN)/python -m bench.engines

bench-gpu: setup ## Text generation on a CUDA device beside the memory's bandwidth, under 8 minutes
	$(BIN)/python -m bench.gpu

bench-overhead: setup ## What metrics, traces and logs together cost, about 5 minutes
	$(BIN)/python -m bench.overhead

profile: setup ## Where each job's microseconds go, stage by stage, about 2 minutes
	$(BIN)/python -m bench.profile

show: setup ## Everything at once under load for a minute: metrics, dashboards, a trace, Flower, alerts
	$(BIN)/python -m tests.show

zoo: setup ## 130 tiny architectures through the text engine, with chunks, cancels and resumes, about 4 minutes
	$(BIN)/python -m tests.zoo

chaos: setup ## Kill, pause and cut everything many times, then judge what clients saw (long)
	$(BIN)/python -m tests.chaos

chaos-quick: setup ## The same in a few minutes
	$(BIN)/python -m tests.chaos --quick

clean: ## Remove what setup and tests made
	rm -rf $(VENV) .audit .bench .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage* htmlcov
