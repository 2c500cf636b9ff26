# `make demo` and `make test` need nothing but Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes
# Two processes, each with a Kafka and a Redis of its own: most tests wait for other processes most of the time. The
# slow ones are faults and scale, which want the machine for themselves.
PARALLEL := --numprocesses 2 --dist loadfile

.PHONY: help demo up down test test-all check lock clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

demo: $(VENV)/demo  ## a running system on real ECG, every feature verified (ARGS="--keep --sensors 50")
	$(BIN)/continuum demo $(ARGS)

up: $(VENV)/demo  ## start the embedded Kafka and Redis
	$(BIN)/continuum up

down: $(VENV)/demo  ## stop them
	$(BIN)/continuum down

test: $(VENV)/dev check  ## linters, types, and the tests that end within minutes
	$(BIN)/pytest -m "not slow" $(PARALLEL)

test-all: $(VENV)/dev check  ## all tests, faults and scale too
	$(BIN)/pytest -m "not slow" $(PARALLEL)
	$(BIN)/pytest -m slow

check: $(VENV)/dev  ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

lock:  ## pin the dependencies of pyproject.toml anew (needs uv)
	for target in runtime: image:function,mqtt demo:embedded,recordings,function \
		dev:embedded,recordings,plot,fast,function,mqtt,dev; do \
		extras=$$(echo $${target#*:} | sed -E 's/([a-z]+),?/--extra \1 /g'); \
		uv pip compile --quiet pyproject.toml $$extras --universal --python-version 3.11 --generate-hashes \
			--no-emit-index-url --no-emit-find-links --no-header --no-annotate \
			--output-file .requirements/$${target%%:*}.txt; \
	done

clean:  ## remove the environment and all local data
	test ! -x $(BIN)/continuum || $(BIN)/continuum down
	rm -rf $(VENV) .continuum

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Continuum needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)

# An empty file marks each set of requirements as installed. The application itself is installed in place, so
# that `continuum` is a command while the code stays here.
$(VENV)/demo: $(BIN)/python .requirements/demo.txt pyproject.toml
	$(PIP) --requirement .requirements/demo.txt
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/dev: $(VENV)/demo .requirements/dev.txt
	$(PIP) --requirement .requirements/dev.txt
	$(BIN)/python -m app.compiled
	touch $@
