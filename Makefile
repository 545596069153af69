# Every target does its own set-up: a fresh machine needs git, make and Python ≥ 3.11 with venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= 2
CONFIG ?= config/config.yaml
EXPERIMENT = $(shell sed -nE 's/^experiment: *"?([A-Za-z0-9_-]+).*/\1/p' $(CONFIG))
# Threads are Snakemake's to hand out: numeric libraries that take all cores would slow each other down and change
# results with the machine.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export PATH := $(abspath $(BIN)):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install install-dev reproduce resume report audit site verify publish document test test-slurm test-faults test-processors test-ledger test-fuzz benchmark benchmark-cuda benchmark-against format lock clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(VENV)/.installed ## Make .venv with the pinned packages
install-dev: $(VENV)/.installed-dev ## The same, with what the tests need

$(VENV)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'error: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12'; exit 1; }
	@echo 'Installing the pinned packages into $(VENV) (some minutes the first time) ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@echo 'Installing what the tests need ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

reproduce: install ## Run an experiment to figures and verdicts (CONFIG=config/mnist.yaml for MNIST)
	@$(BIN)/python tools/check_config.py $(CONFIG)
	$(BIN)/snakemake --cores $(CORES) --configfile $(CONFIG)

resume: install ## Finish a run that was interrupted, whatever stopped it (CONFIG= as for reproduce)
	@$(BIN)/python tools/check_config.py $(CONFIG)
	$(BIN)/python tools/resume.py --cores $(CORES) --configfile $(CONFIG)

report: install ## The page of an experiment that has run (index.html), and Snakemake's report of its provenance
	@$(BIN)/python tools/check_config.py $(CONFIG)
	$(BIN)/snakemake results/$(EXPERIMENT)/index.html --cores $(CORES) --configfile $(CONFIG)
	$(BIN)/snakemake --cores $(CORES) --configfile $(CONFIG) --report results/$(EXPERIMENT)/report.html

audit: install ## Audit a VAE of your own: make audit FILE=posteriors.npz (ARGS="--html audit.html")
	@test -n "$(FILE)" || { echo 'error: no file is named; make audit FILE=posteriors.npz'; exit 1; }
	@PYTHONPATH=scripts $(BIN)/python -m aggregated_posterior audit "$(FILE)" $(ARGS)

site: install ## The pages of all published experiments, into site/, ready for a static host
	$(BIN)/python tools/site_pages.py

# By time alone: what was made on a GPU or by another version is compared as it is, not made again.
verify: install ## Compare your own run with the published one
	@$(BIN)/python tools/check_config.py $(CONFIG)
	$(BIN)/snakemake --cores $(CORES) --configfile $(CONFIG) --rerun-triggers mtime -- verify

publish: install ## Maintainer: put a finished experiment among the published ones (NOTE="on one H100", ARGS="--without FILE")
	$(BIN)/python tools/publish.py --configfile $(CONFIG) --note "$(NOTE)" $(ARGS)
	$(BIN)/python tools/experiments.py

document: install ## Make config/README.md again from the schemas
	$(BIN)/python tools/document_config.py

test: install-dev ## Lint and all tests but the long harnesses
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow and not faults"

test-slurm: install-dev ## Run the pipeline through a real Slurm on this machine (installs it; needs root)
	bash tests/slurm/install.sh
	$(BIN)/pytest -m slurm

test-faults: install-dev ## Kill, fill up and break a run in many ways, and finish it all the same
	$(BIN)/pytest -m faults -s

test-fuzz: install-dev ## Try every reader on damaged and hostile files, ten minutes in all
	FUZZ_SECONDS=40 $(BIN)/pytest tests/fuzz

test-processors: install-dev ## The same bytes on an emulated Intel and an emulated AMD processor (installs qemu-user)
	@command -v qemu-x86_64 >/dev/null || apt-get install -y --no-install-recommends qemu-user || \
	  { echo 'error: qemu-x86_64 is needed; install the package qemu-user (Debian, Ubuntu) as root'; exit 1; }
	$(BIN)/pytest -m slow -s tests/processors

# Some minutes on one core.
test-ledger: install-dev ## How often the claims ledger errs, by simulation; writes docs/ledger_errors.md
	PYTHONPATH=scripts $(BIN)/python -m tests.ledger.simulate

benchmark: install-dev ## Time ours beside the customary way; writes tests/benchmark/RESULTS.md
	$(BIN)/python tests/benchmark/make_table.py

benchmark-cuda: ## Time training on a CUDA device (PYTHON= one whose PyTorch has CUDA)
	PYTHONPATH=scripts $(PYTHON) -m tests.benchmark.cuda

benchmark-against: install-dev ## Time this commit beside an earlier one (COMMIT=, on an idle machine)
	PYTHONPATH=scripts $(BIN)/python -m tests.benchmark.against_commit $(COMMIT)

format: install-dev ## Put all files into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

lock: install-dev ## Make the lock files and environment.yml again from pyproject.toml
	$(BIN)/python tools/lock.py

clean: ## Remove what was made at run time (not the downloads)
	rm -rf .snakemake logs $(filter-out results/published, $(wildcard results/*))
