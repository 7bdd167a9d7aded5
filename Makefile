# `make demo` and `make test` need nothing but Python 3.11 or newer and a package index.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint bench bench-find validate docs clean

demo: .venv/etude  ## the reference study: table, verdicts and picture, about two minutes on two cores
	$(BIN)/etude run mnist --out runs/mnist

test: .venv/dev  ## the whole test suite; more workers than cores, because many tests wait for other processes
	$(BIN)/python -m pytest -n $$($(BIN)/python -c 'import os; print(os.cpu_count() + 1)') --dist worksteal

lint: .venv/dev  ## style, types, and the walls between the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/dev  ## speed and memory against the tutorial's loop; about half an hour
	$(BIN)/python benchmarks/speed.py --out docs/benchmarks/speed.md
	$(BIN)/python benchmarks/judging.py --out docs/benchmarks/judging.md
	$(BIN)/python benchmarks/report.py --out docs/benchmarks/report.md

bench-find: .venv/dev .venv/peers  ## searchers and range tests against dense grids; an hour, hours more where grids are to be trained
	$(BIN)/python benchmarks/truths.py
	$(BIN)/python benchmarks/live.py
	$(BIN)/python benchmarks/find.py  # reads $$ETUDE_SWEEPS, too

validate: .venv/dev .venv/peers  ## the experiments behind the verdicts; hours the first time, goes on where it stopped
	$(BIN)/python benchmarks/dynamics.py --out docs/benchmarks/dynamics.md
	$(BIN)/python benchmarks/coverage.py
	$(BIN)/python benchmarks/comparisons.py
	$(BIN)/python benchmarks/theory.py
	$(BIN)/python benchmarks/tables.py
	$(BIN)/python benchmarks/sweeps.py  # reads $$ETUDE_SWEEPS; says so and ends without it
	$(BIN)/python benchmarks/pauses.py
	$(BIN)/python benchmarks/stability.py

docs: .venv/docs  ## the documentation as a site, strict about links
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.venv/python:
	$(PYTHON) -m venv .venv
	touch $@

.venv/etude: .venv/python pyproject.toml constraints.txt
	$(INSTALL) -e .
	touch $@

.venv/dev: .venv/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev]'
	touch $@ .venv/etude

.venv/peers: .venv/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[peers]'
	touch $@ .venv/etude

.venv/docs: .venv/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[docs]'
	touch $@

clean:
	rm -rf .venv site dist build
