# `make demo` and `make test`, each alone on a fresh clone, do all their set-up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup demo test lint clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[conditions,train,vlm,dev]'
	touch $@

demo: setup
	$(BIN)/python -m pipelines.demo

test: setup
	$(BIN)/vvt models pull embedded demo
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo-out build *.egg-info
