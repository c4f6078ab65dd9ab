# Each target prepares what it needs. A machine needs Python 3.11 or newer and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/ready
CORES  ?= all
STUDY  ?= config/mini.yaml
# More arguments for Snakemake or gpu-check, e.g. ARGS="--config data_root=$HOME/datasets".
ARGS   ?=
# For a machine without a network: its Python, what it has already, and the folder of wheels that is carried there.
PYTHON_VERSION ?= 3.12
EXCLUDE ?= torch numpy
WHEELHOUSE ?= wheelhouse
# The exact versions that are installed.
CONSTRAINTS ?= constraints.txt
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

.PHONY: help doctor gpu-check tables report test test-slow mutants lint docs bench wheelhouse offline-install clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 17

$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[dev,slurm]'
	@touch $@

doctor: $(READY)  ## one page about this machine: torch, driver, GPUs, disk, and what to do
	$(BIN)/safmn doctor

gpu-check: $(READY)  ## check a GPU, measure what to choose on it; a quarter of an hour, resumes
	$(BIN)/safmn gpu-check $(ARGS)

tables: $(READY)  ## run a study (default: mini) and print where its tables are
	$(BIN)/snakemake --cores $(CORES) --configfile $(STUDY) $(ARGS)

report: $(READY)  ## write Snakemake's own report of a study, report.zip
	$(BIN)/snakemake --configfile $(STUDY) $(ARGS) --report report.zip

test: $(READY)  ## run the tests that CI runs
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow"

test-slow: $(READY)  ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow

mutants: $(READY)  ## plant errors in the core and list those that no test notices; an hour, resumes
	$(INSTALL) --editable '.[mutants]'
	$(BIN)/python scripts/mutants --out mutants.jsonl

lint: $(READY)  ## check format, docstrings, types, import layers and rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

docs: $(READY)  ## build the documentation site in site/; a broken link is an error
	$(INSTALL) --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: $(READY)  ## measure the speed beside the reference way
	$(BIN)/python benchmarks/train_step.py
	@test -n "$$SAFMN_DATASETS" || echo "evaluation: not timed, SAFMN_DATASETS names no folder with B100" >&2
	@test -z "$$SAFMN_DATASETS" || $(BIN)/python benchmarks/evaluation.py --data "$$SAFMN_DATASETS/B100"

wheelhouse:  ## build a folder of wheels for a machine without a network: PYTHON_VERSION=3.12 EXCLUDE="torch numpy"
	$(PYTHON) scripts/wheelhouse build --python-version $(PYTHON_VERSION) --exclude "$(EXCLUDE)" --out $(WHEELHOUSE)

offline-install:  ## prepare .venv from WHEELHOUSE=... and what PYTHON has, torch above all; reaches no index
	$(PYTHON) scripts/wheelhouse install $(WHEELHOUSE) --into $(VENV)
	@touch $(READY)

clean:  ## remove the environment, the site and the results of studies
	rm -rf $(VENV) .snakemake site
	git clean -d --force -X --quiet results || rm -rf results/*  # in a checkout, committed studies stay
