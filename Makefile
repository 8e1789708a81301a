# Two commands do all the set-up: `make demo` (VIDEO=path for your own) and `make test`.
PYTHON ?= python3
VENV ?= .venv
# Tests at once.
WORKERS ?= 2
VIDEO ?= examples/dance.mp4
BIN := $(VENV)/bin
DEMO := demo

.PHONY: demo test test-all lint format wheel docs bench-env clean

demo: $(VENV)/ready
	$(BIN)/anthrotap label "$(VIDEO)" --out $(DEMO)/labels --overwrite
	ANTHROTAP_REPO=$(DEMO)/labels $(BIN)/python examples/read_dataset.py

test: $(VENV)/ready
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist worksteal --durations=40

test-all: $(VENV)/ready
	$(BIN)/python -m pytest

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Build the wheel, try it in an environment where this folder is not on the path, and run the blocks of the README and of two pages.
wheel: $(VENV)/ready
	$(BIN)/python -m pytest -q tests/packaging tests/documents -k "wheel or README or publishing or extending"

# The documentation as a site, in site/. A link that leads nowhere is an error. REPOSITORY is the repository's address.
docs:
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet "mkdocs>=1.6,<2" "mkdocs-material>=9.5" "mkdocstrings[python]>=0.29"
	$(VENV)-docs/bin/mkdocs build --strict

# Open3D, which the visibility benchmark compares with, is half a gigabyte: only when asked for.
bench-env: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-docs $(DEMO) site
