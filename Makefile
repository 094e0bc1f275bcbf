# Everything a person or a machine runs. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Where this is set, every process compiles all of our modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run demo test test-gunicorn nightly explore chaos-long stress check audit format profile bench bench-quick bench-engines bench-gpu bench-overhead show zoo chaos chaos-quick clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(READY) ## Make .venv with everything that constraints.txt pins

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try: make PYTHON=python3.12 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

run: setup ## Start everything, stream one real job per demo model, keep serving
	$(BIN)/truthgpt up --demo

demo: setup ## Run one job per demo model on a running server, or on one started for it
	$(BIN)/truthgpt demo

check: setup ## Check lint, format, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: ## List known vulnerabilities of what constraints.txt pins (needs the network; for CI)
	$(PYTHON) -m venv .audit
	.audit/bin/python -m pip install --quiet pip-audit
	.audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

format: setup ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The longest files first (tests/distribution.py). Tests wait for processes more than a third of their time: on two
# cores three of them keep both busy.
PYTEST := -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test: setup check ## Run the checks, then the tests, those of other people's clients too where pip and npm can install them
	$(BIN)/python $(PYTEST)
	@echo "Not run: coverage (make coverage)"

.PHONY: test-again
test-again: setup ## Run what failed in the last run once more, each alone, and name what was flaky
	$(BIN)/python -m tests.again

.PHONY: test-clients coverage
test-clients: setup ## Run only the tests of other people's clients, generated ones and linters (npm and pip install them)
	$(BIN)/python -m pytest tests/clients

# Counting lines takes half as much processor time again, so it has a target of its own.
coverage: setup ## Run the tests and count the lines that they run, of which there must be 85 %
	$(BIN)/coverage erase
	$(BIN)/coverage run $(PYTEST) --ignore=tests/clients
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=85

.PHONY: test-vllm
test-vllm: setup ## Test the vLLM engine against vLLM itself, which is installed on the first run
	$(BIN)/python -m tests.real_vllm

SEED ?= $(shell date +%s)
SCALE ?= 0.25
RUNS ?= 10
# The release before the one that constraints.txt pins.
GUNICORN ?= 27.0.0

test-gunicorn: setup ## Run the server's tests with another release of gunicorn (GUNICORN=27.0.0)
	@folder=$$(mktemp -d) && trap "rm -rf $$folder" EXIT \
	  && $(BIN)/python -m pip install --quiet --no-deps --target $$folder gunicorn==$(GUNICORN) \
	  && PYTHONPATH=$$folder $(BIN)/python -m pytest tests/api/server tests/api/test_gunicorn.py tests/api/test_fuzz.py \
	    tests/api/test_slow_clients.py

nightly: explore chaos-long ## Explore every property, then run chaos at SCALE, with new seeds; hours (SEED=n repeats)

explore: setup ## Run every property and random search with a thousand examples and a new seed (SEED=n repeats)
	@echo "seed $(SEED)"
	$(BIN)/python -m pytest -m "hypothesis or explores" --hypothesis-profile=nightly --hypothesis-seed=$(SEED) \
	  --timeout=7200 -n 2 || { echo "repeat with: make explore SEED=$(SEED)"; exit 1; }

chaos-long: setup ## Run the chaos campaign at a quarter of its full size, with a new seed (SCALE=1: full size)
	$(BIN)/python -m tests.chaos --scale $(SCALE) --seed $(SEED) \
	  || { echo "repeat with: make chaos-long SCALE=$(SCALE) SEED=$(SEED)"; exit 1; }

stress: setup ## Run the suite RUNS times with a busy loop a core beside it, and print what failed in each run
	$(BIN)/python -m tests.stress --runs $(RUNS)

bench: setup ## Compare with other stacks on this machine, about 15 minutes
	$(BIN)/python -m bench

bench-quick: setup ## Compare with other stacks in one short round, about 3 minutes
	$(BIN)/python -m bench --quick

bench-engines: setup ## Compare the engines with static batches and plain transformers, about 6 minutes
	$(BIN)/python -m bench.engines

bench-gpu: setup ## Compare text generation on a CUDA device with the bandwidth of its memory, under 8 minutes
	$(BIN)/python -m bench.gpu

bench-overhead: setup ## Measure what metrics, traces and logs cost together, about 5 minutes
	$(BIN)/python -m bench.overhead

profile: setup ## Print where a job's processor time goes, stage by stage, about 2 minutes
	$(BIN)/python -m bench.profile

show: setup ## Run everything under load for a minute and check metrics, dashboards, a trace, Flower, alerts
	$(BIN)/python -m tests.show

zoo: setup ## Run 130 tiny architectures through the text engine, about 4 minutes
	$(BIN)/python -m tests.zoo

chaos: setup ## Kill, pause and cut every process many times, then check what clients saw (hours)
	$(BIN)/python -m tests.chaos

chaos-quick: setup ## Kill, pause and cut every process a few times, then check what clients saw (minutes)
	$(BIN)/python -m tests.chaos --quick

clean: ## Remove what setup and tests made
	rm -rf $(VENV) .audit .bench .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage* htmlcov
