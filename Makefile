# Needs Python 3.10 or newer with pip, and make. Everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
# A worker a core, four at most, of one thread each: a worker's idle threads would spin on the other's core.
TESTS := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal
PINS := $(shell $(PYTHON) -c 'import sys; print("-c constraints.txt" * (sys.version_info >= (3, 11)))')

.PHONY: demo test test-slow setup lint check clean

demo: setup  ## train, evaluate and report on real photographs; open demo/index.html
	$(BIN)/normbank demo --out demo

test: setup  ## the tests, without those that are slow or need data
	$(TESTS)

test-slow: setup  ## the others; those whose images are absent say so
	$(TESTS) -m "slow or data" -rs

setup: .venv/ready

# constraints.txt pins every version (of Python 3.11 and newer); the range for torch is in pyproject.toml.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PINS) -e '.[dev]'
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint  ## what must hold besides the tests: documents and tables are true
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m bench report --check

clean:
	rm -rf .venv build dist src/*.egg-info demo
