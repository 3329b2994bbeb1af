# make demo · make test · make check · make docs · make bench. Each makes the virtual environment it needs from a bare Python >= 3.11.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_VENV := .venv-bench
BENCH_STAMP := $(BENCH_VENV)/.installed
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	command -v $$name >/dev/null 2>&1 && $$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$name && break; done)
# One thread a worker: more only fight each other. A file stays with one worker, which makes its fixtures once.
PYTEST := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all check docs bench zoo format clean

help:
	@echo "make demo      find, explain and rewrite poor captions with the bundled tiny model; ends with a report to open"
	@echo "make test      make check, then every test but the slow ones"
	@echo "make test-all  the slow ones too"
	@echo "make check     style, types, import contracts"
	@echo "make docs      the docs as a site, in site/; needs no network"
	@echo "make bench     speed and memory figures, beside peers where they install"
	@echo "make zoo       train the bundled models again (CPU, hours)"
	@echo "make format    let ruff rewrite what it can"
	@echo "make clean     remove environments, caches and demo output"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "mm-align needs Python 3.11 or newer with venv and pip (Debian: apt install python3 python3-venv);"; \
		echo "none of python3.11 .. python3.14, python3, python is one. Name yours: make PYTHON=/path/to/python ..."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (about two minutes and 6 GB the first time)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/mmalign scenes make --n 300 --seed 7 --split heldout --out demo-out/raw --overwrite
	$(BIN)/mmalign enhance-data demo-out/raw --out demo-out/enhanced --rescore --overwrite
	@echo
	@echo "open demo-out/enhanced/report.html in a browser: captions before and after, scores and explanations"

test: check
	$(PYTEST) -n $(WORKERS) --dist loadfile -m "not slow and not gpu"

test-all: check
	$(PYTEST) -n $(WORKERS) --dist loadfile -m "not gpu"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open site/index.html in a browser; its search needs a server: $(BIN)/python -m http.server -d site"

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Peers live in an environment of their own: the product's never holds them. One that does not install is left out and named.
$(BENCH_STAMP): pyproject.toml constraints.txt $(STAMP)
	@test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@for peer in webdataset trl 'py-data-juicer aiohttp imagededup' torchcodec opencv-python-headless; do \
		$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $$peer || echo "peer $$peer does not install here; its comparison is left out"; \
	done
	@touch $@

bench: $(BENCH_STAMP)
	@for script in scripts/bench/*.py; do echo "== $$script"; OMP_NUM_THREADS=1 $(BENCH_VENV)/bin/python $$script || exit 1; done

zoo: $(STAMP)
	$(BIN)/python scripts/build_zoo.py

clean:
	rm -rf $(VENV) $(BENCH_VENV) demo-out build dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
