# `make demo`, `make test` and `make lint` need Python >= 3.11, make and the package registry; each
# makes .venv from the pinned requirements.txt when it is missing, stale, half made or broken.

VENV := .venv
BIN := $(VENV)/bin/python
STAMP := $(VENV)/.complete
DOCS_VENV := .venv-docs
WORKERS ?= 2

# PYTHON=... names the interpreter; otherwise the first that is new enough.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; \
  done)

# One worker per core: XLA and BLAS threads on top of them only contend.
TEST_ENV := XLA_FLAGS="--xla_cpu_multi_thread_eigen=false $(XLA_FLAGS)" \
  OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
PYTEST := $(TEST_ENV) $(BIN) -m pytest -n $(WORKERS) --dist worksteal

# An environment whose interpreter is gone (upgraded, moved) is made again.
BROKEN := $(shell $(BIN) -c '' >/dev/null 2>&1 || echo broken)

# The interpreter of test-newest; without one the newest that is found.
NEWEST ?=

.PHONY: help demo test test-all test-newest lint format docs venv broken

help:
	@echo 'make demo      pretrain a small GPT-2, adapt it by full fine-tuning and by LoRA, compare'
	@echo 'make test      the tests, without the slow ones'
	@echo 'make test-all  all tests'
	@echo 'make test-newest  quick tests on Python 3.13 or 3.12 with the newest packages allowed'
	@echo 'make lint      lint, format, types (pyrefly), banned phrases and spelling'
	@echo 'make format    ruff: fix and format in place'
	@echo 'make docs      the documentation, in docs/build; a warning is an error'
	@echo 'make venv      only make .venv: requirements.txt, and this checkout (`.venv/bin/lora-jax`)'

demo: $(STAMP)
	$(BIN) -m experiments.demo

test: $(STAMP)
	$(PYTEST) -m 'not slow'

test-all: $(STAMP)
	$(PYTEST)

test-newest:
	WORKERS=$(WORKERS) .ci/newest.sh $(NEWEST)

lint: $(STAMP)
	$(BIN) -m ruff check .
	$(BIN) -m ruff format --check .
	$(VENV)/bin/pyrefly check --summary=none
	$(BIN) -m tests.words
	$(VENV)/bin/codespell

format: $(STAMP)
	$(BIN) -m ruff check --fix .
	$(BIN) -m ruff format .

docs: $(DOCS_VENV)/.complete
	JAX_PLATFORMS=cpu $(DOCS_VENV)/bin/python -m sphinx -q -W --keep-going docs docs/build
	@echo 'docs/build/index.html'

# Sphinx lies in an environment of its own, which sees the packages of the other one besides.
$(DOCS_VENV)/.complete: requirements-docs.txt $(STAMP)
	@rm -f $@
	$(BIN) -m venv --clear $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	$(BIN) -c 'import site; print(*site.getsitepackages())' > \
	  "$$($(DOCS_VENV)/bin/python -c 'import site; print(*site.getsitepackages())')/lora_jax.pth"
	@touch $@

venv: $(STAMP)

# The stamp goes first and comes last: an interrupted run leaves none.
$(STAMP): requirements.txt $(BROKEN)
	@test -n '$(PYTHON)' && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "lora_jax needs Python 3.11 or newer, found: $$($(or $(PYTHON),python3) --version 2>&1)." \
	    'Install one, or name it: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@rm -f $(STAMP)
	$(PYTHON) -m venv --clear $(VENV) || { \
	  echo 'No virtual environment could be made; on Debian and Ubuntu: apt install python3-venv' >&2; \
	  exit 1; }
	$(BIN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(STAMP)

broken:
