# make demo: set everything up and train PSN on the embedded data set.   make test: the tests.   make contract: every large model.   make lint: style, types.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test contract lint clean

demo: $(VENV)/installed
	$(BIN)/python train_video.py --dataset motion --resume auto
	$(BIN)/python benchmarks/motion_demo.py picture --model output/psn_test_resnet-motion/best

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2

contract: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 -m contract

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The marker is made last, so that an installation that was broken off is done again.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(None if sys.version_info >= (3, 10) else 'Python 3.10 or newer is needed, this is ' + sys.version + '; make PYTHON=python3.11 ... names another')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
