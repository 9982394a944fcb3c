# Two commands: `make demo` runs the main job, `make test` runs all tests. Each sets up the environment it needs.
# Needs Python 3.11 or later (with venv) and make; PYTHON=… and VENV=… choose others. `make test-kernels` takes the newest
# Triton; TRITON='3.6.*' with a VENV of its own takes another.

VENV ?= .venv
PYTHON ?= $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$candidate && break; done)

.PHONY: demo test test-kernels quick nightly lint types speed readme docs test-docs clean

demo: $(VENV)/installed
	$(VENV)/bin/simulate --arch fusemax --workload llama

test: $(VENV)/installed-test  ## on all cores; then the benchmarks alone, whose ratios are of times
	$(VENV)/bin/pytest --numprocesses auto --dist worksteal --ignore tests/benchmarks
	$(VENV)/bin/pytest tests/benchmarks

test-kernels: $(VENV)/installed-kernels  ## the kernels' gates, which need torch and triton but no GPU
	$(VENV)/bin/python -c "import torch, triton; print('torch', torch.__version__, 'triton', triton.__version__)"
	$(VENV)/bin/pytest --numprocesses auto --dist worksteal \
		tests/kernels tests/validation/measure/test_command.py tests/validation/kernels/test_gates.py

quick: $(VENV)/installed-test
	$(VENV)/bin/pytest --numprocesses auto --dist worksteal -m "not slow and not nightly"

nightly: $(VENV)/installed-test  ## what takes minutes: thousands of random cases, others each time
	$(VENV)/bin/pytest --numprocesses auto --dist worksteal -m nightly

lint: $(VENV)/installed-test
	$(VENV)/bin/ruff check .

types: $(VENV)/installed-test
	$(VENV)/bin/mypy -p cascadesim.einsum_cascades -p cascadesim.accelerators -p cascadesim.simulator \
		-p cascadesim.kernels -p cascadesim.validation

speed: $(VENV)/installed-test  ## time this and other tools (those of the extra `compare` that are installed), keep the run
	mkdir -p build
	$(VENV)/bin/pytest tests/benchmarks/test_other_tools.py tests/benchmarks/test_explore_benchmarks.py \
		-k "beside or ten_million" -m "nightly or not nightly" --benchmark-json=build/speed.json
	$(VENV)/bin/python -m cascadesim.validation.readme --speed build/speed.json

readme: $(VENV)/installed-test  ## rewrite the tables of README.md, docs/validation.md, docs/speed.md
	$(VENV)/bin/python -m cascadesim.validation.readme

docs: $(VENV)/installed-docs  ## the documentation site in build/site; a link that leads nowhere is an error
	$(VENV)/bin/mkdocs build --strict

test-docs: $(VENV)/installed-docs  ## the site, and the notebooks from top to bottom
	$(VENV)/bin/pytest tests/docs tests/examples/test_notebooks.py

clean:
	rm -rf $(VENV) build dist

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	@touch $@ $(VENV)/installed

$(VENV)/installed-docs: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[test,docs]"
	@touch $@ $(VENV)/installed-test $(VENV)/installed

$(VENV)/installed-kernels: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[test,kernels]" \
		$(if $(TRITON),"triton==$(TRITON)")
	@touch $@ $(VENV)/installed-test $(VENV)/installed

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or later with venv; give one with PYTHON=…" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
