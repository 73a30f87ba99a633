# `make demo` and `make test` need Python 3.11+ and nothing else; both work in a fresh clone.
PYTHON ?= python3
VENV   ?= .venv
# Pinned so that one release is tested; set TORCH= to keep the torch that is already in the environment.
TORCH  ?= torch==2.13.0

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo serve test test-slow lint proto tavern-checkpoint tavern-bundle clean help

help:            ## Show this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 20

demo: $(VENV)/.runtime  ## Thirty-two characters answer thirty-two players at once, on the embedded model
	$(BIN)/dlm-demo $(ARGS)

serve: $(VENV)/.runtime  ## Serve the embedded tavern on 127.0.0.1:50051
	$(BIN)/dlm-serve $(ARGS)

test: $(VENV)/.dev  ## Install the dev extras and run every test but the slow ones
	$(BIN)/python -m pytest $(ARGS)

test-slow: $(VENV)/.dev  ## Run the slow tests: every fixture in every precision as an engine, kernels for every GPU
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/.dev  ## ruff, pyright and buf
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	cd proto && $(CURDIR)/$(BIN)/buf lint

proto: $(VENV)/.dev  ## Generate the protobuf code anew
	$(BIN)/python scripts/generate_proto.py

tavern-checkpoint: $(VENV)/.dev  ## Train the embedded model (hours on two cores; resumes)
	cd samples/tavern && $(CURDIR)/$(BIN)/python -m tavern_model.train --out checkpoint $(ARGS)

tavern-bundle: $(VENV)/.dev  ## Export the embedded model's bundle from its checkpoint
	$(BIN)/dlm-export samples/tavern/checkpoint --name tavern --out samples/tavern/bundle --force $(ARGS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | $(BIN)/python
	$(PIP) install -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(if $(TORCH),$(PIP) install $(TORCH))
	$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.runtime

clean:           ## Remove the virtual environment and build output
	rm -rf $(VENV) dist
