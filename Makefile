# make demo      train PSN on the embedded data set
# make test-fast run the tests that start no process, train nothing and compile nothing
# make test      run the tests, but for the slow ones
# make test-slow run the tests that train for minutes
# make test-export run every system in every runtime
# make contract  run timm's model API on the larger models
# make lint      check style and types
# Each target sets up .venv first, if necessary.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test-fast test test-slow test-export contract lint clean

demo: $(VENV)/installed
	$(BIN)/python train_video.py --dataset motion --resume auto
	$(BIN)/python benchmarks/motion_demo.py picture --model output/psn_test_resnet-motion/best

test-fast: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 -m "not heavy and not slow and not export and not contract"

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 -m "slow and not contract"

test-export: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 -m export

contract: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 -m contract

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The marker is written last, so an interrupted installation starts over.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(None if sys.version_info >= (3, 10) else 'Python 3.10 or newer is needed, this is ' + sys.version + '; make PYTHON=python3.11 ... names another')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
