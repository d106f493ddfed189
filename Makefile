# `make demo` shows what it does, `make quick` answers in two minutes, `make test` runs everything. All make .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo quick test lint types clean

$(BIN)/imaging: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.test: $(BIN)/imaging
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,onnx,export]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps lavlab-taps
	touch $@

# One study of the sample export cannot be read, on purpose: exit status 1 means "answered, but not all".
demo: $(BIN)/imaging
	$(BIN)/python infer.py data_samples/pacs_export --out results/pacs || [ $$? -eq 1 ]
	$(BIN)/python infer.py data_samples/prostate_export --out results/prostate --psa data_samples/prostate_psa.csv

# A process for each processor; a file's tests stay together because they share what they made. The record in
# tests/durations.json says what is slow, and conftest.py starts the longest files first.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

quick: $(VENV)/.test
	$(PYTEST) -m "not slow and not conformance and not viewer and not browser and not slurm"

test: $(VENV)/.test
	$(PYTEST) --durations=30

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

clean:
	rm -rf $(VENV) results runs build
