# Ottla: run it, test it, check it, measure it. `make run` and `make test` need Python 3.11 or later with its venv module, and make.
#
#   PYTHON=python3.13   the interpreter that .venv is made with (default: the first of python3, python3.14 … python3.11 that is new enough)
#   ARGS=…              given on to `ottla start`, pytest or the benchmark, e.g. make run ARGS="--set listeners=PLAINTEXT://127.0.0.1:19092"
#   JOBS=2              pytest processes
#   CONSTRAINTS=FILE    exact versions for pip, such as requirements/ci.txt

VENV        := .venv
BIN         := $(VENV)/bin
JOBS        ?= 2
ARGS        ?=
CONSTRAINTS ?=
PYTHON      ?=

PIP_INSTALL  = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
# pip compiles what it installs, but not what stays where it is: without bytecode a start takes twice as long.
COMPILE      = $(BIN)/python -m compileall -q src
# The hot modules: compiled anew when one of them has changed (setup.py and docs/decisions/compiled-modules.md).
HOT          = setup.py src/ottla/core/hot.py $(shell find src -name '*.pxd') $(patsubst %.pxd,%.py,$(shell find src -name '*.pxd'))
NEW_ENOUGH  := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

.PHONY: help run test compile check format bench bench-quick tools clean
.DEFAULT_GOAL := help

help:
	@echo "make run     start a broker on 127.0.0.1:9092, data in ./ottla-data"
	@echo "make test    the quick test suite"
	@echo "make compile compile the hot modules anew (make run and make test do so when they have changed)"
	@echo "make check   formatter, linter, strict types, layers"
	@echo "make format  let the formatter and the linter repair what they can"
	@echo "make bench   Ottla beside Apache Kafka, as ratios (java and mvn needed); make bench-quick for a smoke run"
	@echo "make tools   install the foreign clients that the compatibility tests use into .tools"
	@echo "make clean   remove .venv, .tools and caches (not ottla-data)"

run: $(VENV)/.compiled
	@$(COMPILE)
	@exec $(BIN)/ottla start $(ARGS)

test: $(VENV)/.installed-test $(VENV)/.compiled
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

compile: $(VENV)/.installed-test
	@$(BUILD_HOT)
	@touch $(VENV)/.compiled

check: $(VENV)/.installed-check
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-check
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: $(VENV)/.installed-test $(VENV)/.compiled
	@scripts/install-tools kafka
	@$(COMPILE)
	@exec $(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(VENV)/.installed-test $(VENV)/.compiled
	@scripts/install-tools kafka
	@$(COMPILE)
	@exec $(BIN)/python -m benchmarks --quick $(ARGS)

tools:
	@scripts/install-tools

clean:
	rm -rf $(VENV) .tools .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
	find src -name '*.so' -delete

# Stamps: made once, made again when what they were made from changes.

$(VENV)/.made:
	@set -e; chosen=; \
	for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	  if "$$python" -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then chosen=$$python; break; fi; \
	done; \
	if [ -z "$$chosen" ]; then \
	  echo "make: Ottla needs Python 3.11 or later with its venv module; found none as $(or $(PYTHON),python3 or python3.11 … python3.14). Name one: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; \
	  exit 1; \
	fi; \
	"$$chosen" -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	$(PIP_INSTALL) --editable '.[test,compatibility]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-check: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	$(PIP_INSTALL) --editable '.[check]'
	@touch $@ $(VENV)/.installed

# An installation has compiled them; afterwards only what has changed is. Without Cython it is the installation's work again.
BUILD_HOT = if $(BIN)/python -c 'import Cython, setuptools' 2>/dev/null; \
  then $(BIN)/python setup.py --quiet build_ext --inplace; else $(PIP_INSTALL) --no-deps --editable .; fi

$(VENV)/.compiled: $(VENV)/.installed $(HOT)
	@$(BUILD_HOT)
	@touch $@
