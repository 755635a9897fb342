# Everything a person does with this checkout; `make help` lists it.
# ARGS are passed on to the program that a target ends in: make up ARGS="--http 127.0.0.1:9000", make test ARGS="-k rotate".

.DEFAULT_GOAL := help
BIN := .venv/bin
# Files of tests side by side, one a core.
SPREAD := --numprocesses=auto --maxprocesses=4 --dist=loadfile
# ARGS may choose tests of which one of several runs has none.
OR_NONE = $(if $(ARGS),|| [ $$? -eq 5 ])
# Where it is set, every program would compile all its modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List what there is
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: setup
setup: .venv/.ready ## Make .venv with everything pinned; at once when nothing changed
	@:

.venv/.ready: pyproject.toml requirements/dev.txt requirements/uv.txt tools/setup.sh
	@tools/setup.sh

.PHONY: up
up: setup ## Run the service in the foreground, on the embedded defaults (ARGS= its flags, for example --demo)
	@exec $(BIN)/keystead up $(ARGS)

.PHONY: up-redis
up-redis: setup ## The same with limits counted in a private Redis, which ends with it
	@exec $(BIN)/python -m tools.up_redis $(ARGS)

.PHONY: reset
reset: ## Forget everything that `make up` keeps in ./data
	@rm -rf data

.PHONY: try-grpc
try-grpc: setup ## Verify the sample key over gRPC
	@$(BIN)/python -m tools.try_grpc $(ARGS)

.PHONY: test
test: setup services lint coverage ## Everything that must be green before a change lands
	@$(BIN)/python -m pytest --ignore=tests/unit -m "not soak and not alone" $(SPREAD) $(ARGS) $(OR_NONE)
	@$(BIN)/python -m pytest --ignore=tests/unit -m "alone and not soak" $(ARGS) $(OR_NONE)

.PHONY: services
services: ## See to it that the programs of PostgreSQL, Redis and Prometheus are there, for the tests
	@tools/services.sh

.PHONY: coverage
coverage: setup ## Run the unit tests; every branch of the kernel and of the domains must be taken
	@$(BIN)/python -m pytest tests/unit -q $(SPREAD) --cov --cov-report=term-missing:skip-covered

.PHONY: lint
lint: lint-code lint-types lint-layers lint-packages lint-proto lint-generated ## All of lint-…

.PHONY: lint-code
lint-code: setup ## Check the code's rules and its format (ruff)
	@$(BIN)/ruff check -q
	@$(BIN)/ruff format -q --check

.PHONY: lint-types
lint-types: setup ## Check the types (mypy)
	@$(BIN)/mypy

.PHONY: lint-layers
lint-layers: setup ## Check that imports point one way (import-linter)
	@$(BIN)/lint-imports --no-logo

.PHONY: lint-packages
lint-packages: setup ## Check that what is imported is declared, and the other way round (deptry)
	@$(BIN)/deptry src

.PHONY: lint-proto
lint-proto: setup ## Check the proto's rules, and that no caller breaks (buf)
	@$(BIN)/buf lint
	@$(BIN)/buf format --exit-code --diff
	@tools/breaking.sh

.PHONY: lint-generated
lint-generated: setup ## Check that what is generated is what would be generated now
	@$(BIN)/python -m tools.proto --check
	@$(BIN)/python -m tools.docs --check

.PHONY: format
format: setup ## Format the code and the proto, and mend what can be mended safely
	@$(BIN)/ruff check -q --fix-only
	@$(BIN)/ruff format -q
	@$(BIN)/buf format -w

.PHONY: proto
proto: setup ## Generate src/keystead/gen from proto/
	@$(BIN)/python -m tools.proto

.PHONY: requirements
requirements: setup ## Compile requirements/ out of pyproject.toml (UPGRADE=1 takes newer releases)
	@tools/requirements.sh

.PHONY: bench
bench: setup ## Measure, and print tables
	@$(BIN)/python -m bench $(ARGS)

.PHONY: soak
soak: setup services ## Run the long tests, which `make test` leaves out
	@$(BIN)/python -m pytest -m soak $(ARGS)

.PHONY: clean
clean: ## Remove .venv and what tools left behind; data stays
	@rm -rf .venv .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
