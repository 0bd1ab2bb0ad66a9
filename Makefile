# make train   set everything up in .venv and train on the built-in click log
# make test    set everything up and run the fast tests, with coverage
# Variables: PYTHON, ARGS (settings for make train), JOBS (test processes),
# TORCH_CPU_INDEX (empty: the ordinary package index alone).

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
KILLS ?= 200
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); \
	if [ $$n -gt 8 ]; then echo 8; else echo $$n; fi)
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

BUILD := $(shell nvidia-smi -L 2>/dev/null | grep -q GPU && echo gpu || echo cpu)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONSTRAINTS := requirements/constraints.txt
STAMP := $(VENV)/.installed-$(BUILD)
KERNELS := $(wildcard dlrm/kernels/csrc/* dlrm/kernels/csrc_text/*)
# Not isolated: the native kernels are built against the torch that will run them.
INSTALL := install -q -c $(CONSTRAINTS) --no-build-isolation -e

.PHONY: help setup train test test-all test-gpu crash lint format clean

help:
	@sed -n '/^#/!q; s/^# //p' Makefile

setup: $(STAMP)

train: setup
	$(BIN)/dlrm train $(ARGS)

# Hermetic: no public data sets, no network. One thread a process, so that JOBS adds up.
test: setup
	env -u DLRM_REAL_DATA OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup \
		-m "not slow and not gpu and not real_data" \
		--cov --cov-report=term --cov-fail-under=90

test-all: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not gpu"

test-gpu: setup
	$(BIN)/python -m pytest -m gpu

# Kill a run at random moments, resume it each time, compare its end to the bit.
crash: setup
	$(BIN)/python -m tests.crash kills=$(KILLS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist dlrm/kernels/*.so *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage*

$(BIN)/python:
	@$(PYTHON) -c 'pass' 2>/dev/null || { \
		echo "make: '$(PYTHON)' does not run. Install Python 3.10 to 3.14," \
			"or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' || { \
		echo "make: $$($(PYTHON) --version) is not supported; 3.10 to 3.14 are." \
			"Name one: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "make: $(PYTHON) has no venv or pip. On Debian or Ubuntu:" \
			"sudo apt-get install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): $(BIN)/python pyproject.toml setup.py $(KERNELS) $(CONSTRAINTS)
	$(MAKE) --no-print-directory install-$(BUILD)
	$(BIN)/dlrm --version
	@$(BIN)/python -c 'from dlrm.kernels.library import why_absent; \
		print("native kernels:", why_absent() or "built")'
	touch $@

.PHONY: install-cpu install-gpu

# torch comes first and alone: its CPU build is on an index of its own. What it depends
# on follows, as building against it imports it. torchrec comes last and alone: it would
# pull in the CUDA fbgemm-gpu, which shares files with the CPU's.
install-cpu:
	@if $(BIN)/python -c 'import torch' 2>/dev/null; then :; \
	elif [ -n "$(TORCH_CPU_INDEX)" ] && $(PIP) --retries 0 --timeout 15 install -q \
		--no-deps --index-url $(TORCH_CPU_INDEX) -c $(CONSTRAINTS) torch; then :; \
	else \
		echo "Installing torch from the ordinary index."; \
		$(PIP) install -q --no-deps -c $(CONSTRAINTS) torch; \
	fi
	$(PIP) install -q -c $(CONSTRAINTS) torch setuptools packaging
	$(PIP) $(INSTALL) '.[cpu,dev]'
	$(PIP) install -q -c $(CONSTRAINTS) --no-deps torchrec

install-gpu:
	$(PIP) install -q -c $(CONSTRAINTS) torch setuptools packaging
	$(PIP) $(INSTALL) '.[gpu,dev]'
