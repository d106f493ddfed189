# Two commands do everything: `make demo` and `make test`. Both make .venv on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types clean

$(BIN)/imaging: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.test: $(BIN)/imaging
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,onnx]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps lavlab-taps
	touch $@

# One study of the sample export cannot be read, on purpose: exit status 1 means "answered, but not all".
demo: $(BIN)/imaging
	$(BIN)/python infer.py data_samples/pacs_export --out results/pacs || [ $$? -eq 1 ]
	$(BIN)/python infer.py data_samples/prostate_export --out results/prostate --psa data_samples/prostate_psa.csv

test: $(VENV)/.test
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

clean:
	rm -rf $(VENV) results runs build
