# Two commands: `make demo` trains and tests MSM4SR beside SASRec, `make test` checks the whole project.
# Both first make .venv and install the project into it (editable) with the versions of constraints.txt.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-float32 fuzz kill lint format bench wheel clean

demo: $(INSTALLED)  ## SASRec, then MSM4SR, on the generated data set `demo`, ending with both in one table
	$(BIN)/python run_recbole.py --model=SASRec --dataset=demo
	$(BIN)/python run_recbole.py --model=MSM4SR --dataset=demo

test: lint  ## lint, types, and the whole test suite
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4

test-float32: $(INSTALLED)  ## the numerical tests as a processor without AVX-512 and bfloat16 runs them
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest -m "not slow" --numprocesses=auto \
		--maxprocesses=4 tests/core tests/model tests/training

fuzz: $(INSTALLED)  ## 10,000 damaged inputs instead of the 300 of `make test`
	FUZZ_EXAMPLES=10000 $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 tests/robustness

kill: $(INSTALLED)  ## SIGKILL at every write event of a run, a comparison and a preparation
	$(BIN)/python tests/robustness/kill.py

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
