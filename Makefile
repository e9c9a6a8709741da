# What a developer runs. The environment is whichever `python` comes first in PATH; a virtual environment is best.
PYTHON ?= python
TRAP := $(shell $(PYTHON) -c "import sysconfig; print('sandbox/cpu/_trap' + sysconfig.get_config_var('EXT_SUFFIX'))")

.PHONY: check lint types imports test thorough slow bench lowmem history trap dev

check: lint types imports test

# The tools, once; and the C trap loop beside its source, so that tests run against the checkout.
dev:
	@$(PYTHON) -c "import pytest, xdist, hypothesis, ruff, mypy, importlinter, setuptools" 2>/dev/null \
	  || $(PYTHON) -m pip install -q ".[dev]"

trap: $(TRAP)

$(TRAP): sandbox/cpu/trap.c sandbox/cpu/x87.c sandbox/cpu/build_trap.py | dev
	$(PYTHON) sandbox/cpu/build_trap.py

lint: dev
	$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check -q .

types: dev
	$(PYTHON) -m mypy

imports: trap
	PYTHONPATH=. lint-imports

test: trap
	PYTHONPATH=. $(PYTHON) -m pytest -q -n 2 --dist worksteal

# What the default run leaves out: every case of the tests over all schemes, pagings and sizes. CI runs it as well.
thorough: trap
	PYTHONPATH=. $(PYTHON) -m pytest -q -n 2 --dist worksteal -m thorough

# Thousands of seeds over every combination; minutes to hours.
slow: trap
	PYTHONPATH=. $(PYTHON) -m pytest -q -n 2 --dist worksteal -m slow

bench: trap
	PYTHONPATH=. $(PYTHON) -m benchmarks

# docs/low-memory.md: what each scheme takes of low memory, at 1 to 64 GB. A quarter of an hour; goes on where it stopped.
lowmem: trap
	PYTHONPATH=. $(PYTHON) -m benchmarks.lowmem

# docs/history.md: the workloads of the argument at their own size, or those in ROWS. An hour; goes on where it stopped.
history: trap
	PYTHONPATH=. $(PYTHON) -m benchmarks.history --jobs 2 $(ROWS)
