# make demo   the main job on this machine's own files     make test   every test
# make check  ruff, mypy                                   make bench  against the peers
# Each makes .venv by itself. Another interpreter: make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --log $(VENV)/pip.log

.PHONY: demo test check bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	@$(BIN)/python examples/demo.py --pip-log $(VENV)/pip.log

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) demo-out dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The stamp is what makes a second call fast. pip's own log is kept: it is the demo's input.
# Where Python has no ensurepip (Debian splits it off), its own pip installs the first one.
# Dependency groups need pip 25.1; the pip that comes with Python 3.11 is older.
$(VENV)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "no python3 found. Name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11. Name another: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
	  { $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	    $(PYTHON) -m pip --quiet --python $(BIN)/python install pip; }
	@rm -f $(VENV)/pip.log
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	$(PIP) install --quiet --editable . --group dev
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(PIP) install --quiet --group bench
	@touch $@
