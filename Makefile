# One command for each thing that a person or a machine does here. `make` alone lists them.
PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
BENCHES := $(sort $(wildcard benchmarks/*.py))
# Two workers need each test module translated; kept, a second run starts sooner, whatever the machine's default.
PYTEST  := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile
CODE    := molmo2_ground tests examples $(wildcard train benchmarks)

.DEFAULT_GOAL := help
.PHONY: help demo test check fix bench tiny clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The environment is made anew when it is missing, or when what it is made of has changed.
$(VENV)/.ready: constraints.txt pyproject.toml
	@echo "making $(VENV) (once; a few minutes with the download)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another with: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps trackeval
# Meta's package, which ours is held against. It is a source distribution that asks for torchvision and for a
# torch of its own to be built with; what is needed of it runs without both.
	@SAM2_BUILD_CUDA=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps --no-build-isolation sam2 hydra-core iopath omegaconf antlr4-python3-runtime portalocker
	@touch $@

demo: $(VENV)/.ready  ## make a street clip, track "the red car" in it, write all to out/demo
	$(BIN)/molmo2-ground demo --out out/demo

test: $(VENV)/.ready  ## every test that needs neither a GPU nor the internet
	$(PYTEST) -m 'not gpu and not net'

check: $(VENV)/.ready  ## format, lint, types, layers, and the fast tests
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -m 'not slow and not gpu and not net'

fix: $(VENV)/.ready  ## format, and repair what the linter can
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(VENV)/.ready  ## the benchmarks, one table each
	@for file in $(BENCHES); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

tiny: $(VENV)/.ready  ## train the bundled checkpoint from nothing into runs/tiny (hours; train/README.md)
	$(BIN)/python -m molmo2_ground.train.tiny --work runs/tiny --out runs/tiny/checkpoint

clean:  ## remove the environment and what runs left behind
	rm -rf $(VENV) out .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
