# Two commands: `make demo` trains and tests MSM4SR beside SASRec, `make test` checks the whole project.
# Both first make .venv and install the project into it (editable) with the versions of constraints.txt.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint format bench wheel clean

demo: $(INSTALLED)  ## SASRec, then MSM4SR, on the generated data set `demo`, ending with both in one table
	$(BIN)/python run_recbole.py --model=SASRec --dataset=demo
	$(BIN)/python run_recbole.py --model=MSM4SR --dataset=demo

test: lint  ## lint, types, and the whole test suite
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## speed, memory and scale against their references; one alone: python -m benchmarks NAME
	$(BIN)/python -m benchmarks --json runs/benchmarks.json

wheel: $(INSTALLED)  ## dist/recbole_msm4sr-*.whl
	$(BIN)/python -m build --wheel

clean:  ## everything that is made; data sets, checkpoints and runs stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(INSTALLED): setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[prep,study,dev]"
	touch $@
