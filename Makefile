# Everything here makes its own .venv first; a stamp file a set of tools lets the next call start at once.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help lab test test-colab check demo notebooks figures bench bench-gpu faults clean \
    chromium remake

# What a caller may set: make lab PORT=9000, make test JOBS=4, make lab PYTHON=/opt/python3.12/bin/python3
PORT ?= 8888
JOBS ?= 2
LAB_FLAGS ?=
PYTHON ?=
PROCESSES ?=
STOP_AFTER ?=
FAULTS ?=
COMPARE_FLAGS = $(if $(PROCESSES),--processes $(PROCESSES)) $(if $(STOP_AFTER),--stop-after $(STOP_AFTER))

VENV := .venv
PY := $(VENV)/bin/python
# A venv holds absolute paths, so one that came along with a moved folder has another folder's mark.
MADE := $(VENV)/.made-$(shell printf '%s' "$(CURDIR)" | cksum | cut -d ' ' -f 1)
LAB := $(VENV)/.stamp-lab
TEST := $(VENV)/.stamp-test
# Colab's kernel and widgets, to be put in front of the others on the path: torch is not there twice.
COLAB_STACK := $(VENV)/colab
COLAB := $(VENV)/.stamp-colab
PIP := $(PY) -m pip --quiet --quiet --disable-pip-version-check install
PIP_INSTALL := $(PIP) --constraint constraints.txt
IN_RANGE := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
BROWSERS := chromium chromium-browser google-chrome
# Two test processes with one thread each finish before one process with two.
QUIET_CORES := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
NBVAL := SBLD_TIER=smoke $(QUIET_CORES) $(PY) -m pytest --nbval-lax --nbval-current-env \
    --nbval-cell-timeout=120
COLAB_NOTEBOOK = set -- notebooks/08_*.ipynb; if [ -e "$$1" ]; then \
    echo "Running the live panel's notebook on Colab's kernel"; \
    PYTHONPATH="$(CURDIR)/$(COLAB_STACK)" $(NBVAL) "$$@"; \
    else echo "!! SKIPPED: there is no notebook of the live panel yet"; fi

help:  ## Say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

lab: $(LAB)  ## Open the lessons in JupyterLab on this machine (PORT=8888)
	@echo "Starting JupyterLab: open the address with the token that it prints below"
	@root=; [ "$$(id -u)" -ne 0 ] || root=--allow-root; \
	exec $(PY) -m jupyterlab --ip=127.0.0.1 --port=$(PORT) $$root \
	    --ServerApp.root_dir="$(CURDIR)" \
	    --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(LAB_FLAGS)

test: check $(COLAB) chromium  ## Run every check and every test, the notebooks and the browser among them (JOBS=2)
	@echo "Running the tests"
	@$(QUIET_CORES) $(PY) -m pytest tests --ignore=tests/browser -n $(JOBS) --dist loadscope
	@if [ -d tests/browser ]; then \
	    echo "Running the browser tests"; \
	    $(QUIET_CORES) $(PY) -m pytest tests/browser -r s; \
	else echo "!! SKIPPED: there is no browser test yet"; fi
	@set -- notebooks/*.ipynb; if [ -e "$$1" ]; then \
	    echo "Running the notebooks at the smoke tier"; \
	    $(NBVAL) -n $(JOBS) --dist loadscope "$$@"; \
	else echo "!! SKIPPED: there is no notebook yet"; fi
	@$(COLAB_NOTEBOOK)

test-colab: $(COLAB)  ## The live panel on Colab's kernel and widgets: its notebook, then steered by messages
	@$(COLAB_NOTEBOOK)
	@echo "Steering the live panel on Colab's kernel and on ours"
	@$(QUIET_CORES) $(PY) -m pytest tests/colab -r s

check: $(TEST)  ## Lint, format, types and the floors of the house, in seconds
	@echo "Checking lint, format, types and imports"
	@$(PY) -m ruff check --quiet .
	@$(PY) -m ruff format --check --quiet .
	@$(PY) -m pyright
	@$(VENV)/bin/lint-imports --no-logo

demo: $(LAB)  ## Baseline, PLD and SBLD side by side in a terminal, in minutes on two cores
	@$(VENV)/bin/sbld demo

notebooks: $(LAB)  ## Execute every notebook in order, in place, at the cpu tier
	@$(PY) notebooks/run_all.py

figures: $(LAB)  ## Rebuild every figure that the README and the notebooks show
	@PYTHONPATH=. $(PY) figures/make.py

bench: $(TEST)  ## Measure speed here, then methods against controls; stopped, it goes on (PROCESSES=2)
	@$(PY) -m benchmarks
	@$(PY) -m benchmarks.comparisons cpu $(COMPARE_FLAGS)

bench-gpu: $(TEST)  ## The same on CUDA, at GPT-2 124M and GPT-3 Medium (STOP_AFTER=500 seconds)
	@$(PY) -m benchmarks --gpu
	@$(PY) -m benchmarks.comparisons gpu-124m gpu-medium $(COMPARE_FLAGS)

faults: $(TEST)  ## Break runs, files, disks and inputs for real, thousands of times (FAULTS="killed damaged")
	@PYTHONPATH=tests:. $(QUIET_CORES) $(PY) -m faults $(FAULTS)

clean:  ## Remove caches and build leftovers (.venv and data/ stay)
	@rm -rf build dist *.egg-info .hypothesis .import_linter_cache .pytest_cache .ruff_cache
	@find . -path ./$(VENV) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) \
	    -prune -exec rm -rf {} +

$(LAB): pyproject.toml constraints.txt $(MADE)
	@echo "Installing the kit and JupyterLab into $(VENV) (minutes the first time: torch is large)"
	@$(PIP_INSTALL) --editable '.[lab]'
	@$(NO_NEWS)
	@touch $@

$(TEST): pyproject.toml constraints.txt $(MADE)
	@echo "Installing the kit with its test tools into $(VENV) (minutes the first time: torch is large)"
	@$(PIP_INSTALL) --editable '.[lab,e2e,dev]'
	@$(NO_NEWS)
	@touch $(LAB) $@

$(COLAB): requirements-colab.txt $(TEST)
	@echo "Installing the kernel and the widgets of Colab into $(COLAB_STACK)"
	@rm -rf $(COLAB_STACK)
	@$(PIP) --no-deps --target $(COLAB_STACK) --requirement requirements-colab.txt
	@touch $@

# JupyterLab asks at its first start whether it may fetch news: this kit's answer is no.
NO_NEWS = mkdir -p $(VENV)/share/jupyter/lab/settings && printf '%s\n' \
    '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' \
    > $(VENV)/share/jupyter/lab/settings/overrides.json

# A venv that somebody made here by hand is kept when it can serve; one whose Python is gone is made again.
$(MADE): $(if $(wildcard $(PY)),,remake)
	@if ! ls $(VENV)/.made-* >/dev/null 2>&1 && $(PY) -c '$(IN_RANGE)' 2>/dev/null \
	    && $(PY) -m pip --version >/dev/null 2>&1; then \
	    echo "Using the $(VENV) that is already here"; touch $@; exit 0; \
	fi; \
	candidates="$(PYTHON)"; \
	[ -n "$$candidates" ] || candidates="python3 python3.13 python3.12 python3.11 python3.10"; \
	for python in $$candidates; do "$$python" -c '$(IN_RANGE)' 2>/dev/null && break; python=; done; \
	if [ -z "$$python" ]; then \
	    echo "No Python from 3.10 to 3.13 here (tried: $$candidates)." >&2; \
	    echo "Install one, or name it: make lab PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "$$python (Python $$version) cannot make a virtual environment." >&2; \
	    echo "On Debian or Ubuntu: sudo apt install python$$version-venv" >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with Python $$version"; \
	"$$python" -m venv --clear $(VENV) && touch $@

chromium:
	@for browser in $(BROWSERS); do command -v $$browser >/dev/null 2>&1 && exit 0; done; \
	if [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    echo "Installing chromium for the browser tests"; \
	    log=$$(DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND; \
	        { apt-get -q update && apt-get -q -y install chromium; } 2>&1) && exit 0; \
	    printf '%s\n' "$$log" | tail -n 5; \
	fi; \
	echo "!! There is no chromium here: the browser tests will be SKIPPED"
