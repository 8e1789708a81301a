# Two commands do all the set-up: `make demo` (VIDEO=path for your own) and `make test`.
PYTHON ?= python3
VENV ?= .venv
# Tests at once.
WORKERS ?= 2
BIN := $(VENV)/bin
DEMO := demo

.PHONY: demo test test-all lint format bench-env clean

demo: $(VENV)/ready
ifndef VIDEO
	$(BIN)/python examples/render_dancers.py $(DEMO)/dancers.mp4
endif
	$(BIN)/anthrotap label "$(or $(VIDEO),$(DEMO)/dancers.mp4)" --out $(DEMO)/labels --overwrite
	ANTHROTAP_REPO=$(DEMO)/labels $(BIN)/python examples/read_dataset.py

test: $(VENV)/ready
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-all: $(VENV)/ready
	$(BIN)/python -m pytest

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Open3D, which the visibility benchmark compares with, is half a gigabyte: only when asked for.
bench-env: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) $(DEMO)
