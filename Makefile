# make run     everything from a fresh clone to the dashboard with the demo playing (ARGS="--no-browser --engine …")
# make test    lint, types, unit, loopback, browser and SAM 3 tests, fast ones first
# Nothing is left outside this folder (pip's and apt's own caches aside); data lies in var/.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
export STREAMER_DATA_DIR ?= $(CURDIR)/var
# Of each run of tests a folder of its own, the last three are kept; not --basetemp, which a run beside another empties.
export PYTEST_DEBUG_TEMPROOT := $(CURDIR)/.pytest_cache/tmp
PYTEST := mkdir -p "$$PYTEST_DEBUG_TEMPROOT" && $(BIN)/python -m pytest

.PHONY: help run test test-fast test-unit test-loopback test-sam3 test-browser lint models chromium clean

help:
	@sed -n 's/^# make/make/p' Makefile
	@echo "make test-fast   lint, types and unit tests"
	@echo "make models      fetch the embedded model pack"
	@echo "make clean       remove the virtual environment and caches; var/ (your data) stays"

run: $(VENV)/.installed-ui models
	@exec $(BIN)/streamer up $(ARGS)

test: lint test-unit test-loopback test-browser test-sam3

test-fast: lint test-unit

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-unit: $(VENV)/.installed-dev
	$(PYTEST) tests/unit -n 2

test-loopback: $(VENV)/.installed-dev models
	$(PYTEST) tests/loopback

test-browser: $(VENV)/.installed-dev models chromium
	$(PYTEST) tests/browser

# The real architecture with small random weights, on the CPU. Last: torch is a large download.
test-sam3: $(VENV)/.installed-sam3
	$(PYTEST) tests/sam3

models: $(VENV)/.installed-ui
	@$(BIN)/streamer models pull embedded >/dev/null

# The installs are stamped: they are done again only when pyproject.toml changes.
$(VENV)/.installed-ui: pyproject.toml | $(BIN)/python
	@echo "installing (once; some minutes)"
	$(PIP) install -e '.[ui]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "installing with what the tests need (once; some minutes)"
	$(PIP) install -e '.[dev]'
	$(BIN)/python -m pip check
	@touch $@ $(VENV)/.installed-ui

$(VENV)/.installed-sam3: pyproject.toml $(VENV)/.installed-dev
	@echo "installing torch and SAM 3 for their tests (once; gigabytes)"
	$(PIP) install -e '.[dev,sam3]'
	$(BIN)/python -m pip check
	@touch $@ $(VENV)/.installed-dev $(VENV)/.installed-ui

$(BIN)/python:
	@for python in $${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	  echo "Python 3.11 or newer is needed and none is on PATH; install it, or say make PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	$$found -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$$found cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

chromium:
	@if command -v chromium chromium-browser google-chrome >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing chromium for the browser tests"; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >/dev/null \
	    || echo "chromium could not be installed; the browser tests will be skipped"; \
	else \
	  echo "chromium is missing; the browser tests will be skipped (as root: apt-get install chromium)"; \
	fi

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
