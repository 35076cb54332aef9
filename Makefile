# The words of this project; CI uses these and nothing else.
PYTHON ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
.DEFAULT_GOAL := help
.PHONY: help demo test install develop lint types unit slow calibration bench-toy reference ci clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: install ## install dealcast and forecast the sample data: the whole journey
	$(BIN)/dealcast demo

test: develop unit ## install everything the tests need and run them

.venv/bin/python:
	@python=$$(PYTHON="$(PYTHON)" scripts/find-python) && "$$python" -m venv .venv
	@$(PIP) install --upgrade -c constraints.txt pip

.venv/.run: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing dealcast ..."
	@$(PIP) install -c constraints.txt -e .
	@touch $@

.venv/.develop: .venv/.run
	@echo "installing the development tools ..."
	@$(PIP) install -c constraints.txt -e . --group dev
	@touch $@

install: .venv/.run ## install dealcast into .venv

develop: .venv/.develop ## install dealcast with the tools that tests and checks need

unit: develop ## the default tests
	$(BIN)/python -m pytest -n 2

lint: develop ## format and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: develop ## strict type check of both packages
	$(BIN)/mypy

slow: develop ## the longer tests: real sampling on larger data, worker processes
	$(BIN)/python -m pytest -m slow

calibration: develop ## coverage and simulation-based calibration over many simulated histories
	$(BIN)/python -m pytest -m calibration

reference: develop ## every published reference value beside ours
	$(BIN)/python -m benchmarks.reference_values

ci: lint types test slow calibration ## all of it

clean: ## remove what was built
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
