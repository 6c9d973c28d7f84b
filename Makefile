# The two commands: `make demo` and `make test`. Both do all the set-up; `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Passed to pip when it installs torch on its own, before the project: a smaller build for machines without a GPU, e.g.
# make setup TORCH_ARGS="torch==2.8.0+cpu --find-links DIR". Empty: torch comes with the project's dependencies.
TORCH_ARGS ?=

# What `make demo` replays: nothing (the simulator), or DATA=FILE with its FORMAT.
DATA ?=
FORMAT ?= foursquare
DEMO_ARGS := $(if $(DATA),--data $(DATA) --format $(FORMAT)) \
  $(if $(RATE),--rate $(RATE)) $(if $(DURATION),--duration $(DURATION)) $(if $(JSON),--json $(JSON)) \
  $(if $(BROKER),--broker $(BROKER)) $(if $(BOOTSTRAP),--bootstrap $(BOOTSTRAP))

.PHONY: help setup demo test lint kafka kafka-if-possible chaos bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | column -t -s "$$(printf '\t')"

setup: $(STAMP) ## install the project, editable, into .venv

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "chronotope needs Python 3.11 or newer (none found); set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "chronotope needs Python 3.11 or newer, $(PYTHON) is older; set PYTHON=" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_ARGS),$(BIN)/python -m pip install --quiet $(TORCH_ARGS))
	$(BIN)/python -m pip install --quiet --editable '.[local,dev]'
	@echo 'compiling the kernels (once; one to four minutes)'
	@$(BIN)/python -m chronotope.kernels
	@touch $@

demo: setup ## replay events through the whole path: DATA= FORMAT= RATE= DURATION= JSON= BROKER=kafka BOOTSTRAP=
	@$(BIN)/chronotope demo $(DEMO_ARGS)

lint: setup ## the static checks alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint kafka-if-possible ## static checks, then every test but those of make chaos; those that start brokers one by one
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile -m 'not (integration or kafka or chaos)'
	$(BIN)/python -m pytest -m '(integration or kafka) and not chaos' tests

kafka: ops/kafka/lib/.fetched ## fetch Apache Kafka's jars with Maven (for --broker kafka and its tests)

ops/kafka/lib/.fetched: ops/kafka/pom.xml
	@rm -rf ops/kafka/lib
	mvn --batch-mode --quiet -Dstyle.color=never --file ops/kafka/pom.xml package
	@touch $@

kafka-if-possible:
	@if command -v mvn >/dev/null && command -v java >/dev/null && $(MAKE) --no-print-directory --silent kafka; then :; else \
	  echo '*** Apache Kafka is NOT available (it needs Java 17, Maven and a Maven repository): its tests will be skipped. ***'; fi

chaos: setup kafka-if-possible ## kill and restart processes on both brokers until the verifier is sure
	$(BIN)/python -m pytest -m chaos

BENCHES := sequence serving spatial stream temporal

bench: setup ## the benchmarks against their peers, which it installs; tables on the terminal, JSON in build/bench
	$(BIN)/python -m pip install --quiet --editable '.[local,dev,bench]'
	@mkdir -p build/bench
	@for name in $(BENCHES); do echo "== $$name"; $(BIN)/python bench/$$name.py --json build/bench/$$name.json || exit 1; done

clean: ## remove what was installed, fetched and written here
	rm -rf $(VENV) ops/kafka/lib ops/kafka/target build var *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
