# Every target sets up .venv by itself; `make demo` and `make test` need only Python 3.11+.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
TEST_PROCESSES ?= 2
# Options of the demo, such as --serve or "--children 30", of the soak and of the outputs.
ARGS ?=
# Parts of the benchmark and their options; all parts where none is named.
BENCH ?=
EMULATOR := packages/moysklad-emulator
# Where no bytecode is kept, every process compiles the package anew and pytest rewrites every test.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo check test lint bench soak docs outputs screenshots format clean

$(VENV)/.dev: pyproject.toml $(EMULATOR)/pyproject.toml
	@test -n "$(PYTHON)" || { echo "imgsync needs Python 3.11 or newer on PATH" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing (Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --editable $(EMULATOR) --editable '.[dev]'
	@touch $@

$(VENV)/.demo: pyproject.toml $(EMULATOR)/pyproject.toml
	@test -n "$(PYTHON)" || { echo "imgsync needs Python 3.11 or newer on PATH" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --editable $(EMULATOR) --editable '.[demo]' || { echo "pip could not install what the demo" \
		"needs. Is the package index in reach? Behind a proxy set HTTPS_PROXY; then say 'make demo' again" >&2; exit 1; }
	@touch $@

demo: $(VENV)/.demo
	@$(BIN)/imgsync demo $(ARGS)

# The loop of one who writes code. The databases, the processes and what takes long are for `make test`.
check: lint
	$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --hypothesis-profile=quick \
		-m "not process and not database and not slow"

test: lint
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist=worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Hours of faults in minutes: "--minutes 60", "--seed N" of an earlier one. README's table is made of
# what "--results tests/outputs/soak.json" keeps.
soak: $(VENV)/.dev
	@$(BIN)/python -m tests.soak $(ARGS)

bench: $(VENV)/.dev
	@$(BIN)/python -m benchmarks $(BENCH)

# The documents as pages, in docs/_build/html; a warning is an error.
docs: $(VENV)/.dev
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

# What the documents show of printed output; the demos and the checks run for it.
outputs: $(VENV)/.dev
	@$(BIN)/python -m tests.outputs $(ARGS)

# The README's pictures of the dashboard; needs Chromium.
screenshots: $(VENV)/.dev
	@$(BIN)/python -m tests.browser.screenshot

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis docs/_build docs/reference
