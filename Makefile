# The only commands anyone needs. `make` lists them.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Everything that tools cache stays in the checkout.
export UV_CACHE_DIR := $(CURDIR)/.tools/uv-cache
export npm_config_cache := $(CURDIR)/.tools/npm-cache
# Certificates as pip takes them: those of this machine, which a company's proxy may need.
export UV_SYSTEM_CERTS ?= 1
export PYTHONUTF8 := 1
DATA ?= .data/demo
PORT ?= 8080
TESTS ?= tests
# One more than the cores that CI has: tests of faults wait more than they compute.
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help install demo demo-reset run test fuzz-api check format bench-e2e bench-scaling bench-memory bench-api bench-fairness bench-chunks bench-map bench-broker bench-poison bench-races bench-secrets bench-dlq chaos conformity migrate revision lock sbom docs assets clean

help: ## list the commands
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

install: $(VENV)/.installed ## install everything into .venv (locked, hashed)

$(VENV)/.installed: requirements-dev.txt requirements-uv.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 is missing: install it and run make again"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { echo "Python 3.11 or 3.12 is needed; set PYTHON="; exit 1; }
	@test -x $(BIN)/python || { echo "· creating .venv"; $(PYTHON) -m venv $(VENV) || { echo "on Debian: apt install python3-venv"; exit 1; }; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --require-hashes -r requirements-uv.txt
	@echo "· installing $$(grep -c '==' requirements-dev.txt) packages (a minute the first time; an interrupted run resumes)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements-dev.txt
	@touch $@

assets: app/web/static/build/.built ## bundle the pages' scripts and styles

app/web/static/build/.built: $(VENV)/.installed $(shell find app/web/assets -type f -not -path '*/node_modules/*' 2>/dev/null)
	@echo "· bundling the pages"
	@$(BIN)/python -m devstack.node app/web/assets ci --no-audit --no-fund --loglevel=error >/dev/null
	@$(BIN)/python -m devstack.node app/web/assets run --silent build
	@touch $@

demo: install assets ## start everything, load a corpus, print one URL (DOCS=folder PORT=8080 DATA=.data/demo)
	@$(BIN)/python -m devstack.demo --data "$(DATA)" --port $(PORT) $(if $(DOCS),--docs "$(DOCS)")

demo-reset: install ## forget the demo's data
	@$(BIN)/python -m devstack reset --data "$(DATA)"

run: install assets ## start everything without a corpus
	@$(BIN)/python -m devstack.demo --data "$(DATA)" --port $(PORT) --no-corpus

test: install assets ## run every test against real servers that it starts itself (TESTS=path WORKERS=3)
	@$(BIN)/python -m devstack.browser
	@$(BIN)/python -m devstack.promtool
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

fuzz-api: install assets ## send whatever the document allows to every route, for minutes
	@$(BIN)/pytest --hypothesis-profile fuzz-api --timeout 3600 tests/integration/api/test_document.py

check: install assets ## ruff, mypy --strict, import contracts, tsc
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m devstack.node app/web/assets run --silent check

format: install ## format the code
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

bench-e2e: install assets ## documents per second through the whole pipe, beside a plain loop (ARGS=--write)
	@$(BIN)/python -m tests.bench.bench_e2e $(ARGS)

bench-scaling: install ## items per second with 1, 2 and 4 worker processes (ARGS=--write)
	@$(BIN)/python -m tests.bench.bench_scaling $(ARGS)

bench-api: install ## pages over a million chunks; ten calls beside bare Flask (ARGS=--write)
	@$(BIN)/python -m tests.bench.api $(ARGS)

bench-memory: install ## peak memory of web and planning at 10k, 100k and 1M chunks (ARGS=--write)
	@$(BIN)/python -m tests.bench.bench_memory $(ARGS)

bench-fairness: install ## one tenant's file, alone and beside another's 10,000 (ARGS=--write)
	@$(BIN)/python -m tests.bench.bench_fairness $(ARGS)

bench-chunks: install ## chunk rows by INSERT and by COPY (ARGS=--write)
	@$(BIN)/python -m tests.bench.bench_chunks $(ARGS)

bench-map: install ## maps of 5k, 20k and 100k points, beside plain umap-learn + hdbscan
	@$(BIN)/python -m tests.bench.bench_map $(if $(filter command line,$(origin DATA)),--data "$(DATA)")

bench-broker: $(VENV)/.bench-installed ## the broker beside Redis, RabbitMQ, Celery, taskiq-nats (ARGS="--quick")
	@$(BIN)/python -m tests.bench.broker $(ARGS)

bench-poison: install ## how long healthy jobs wait beside a message that kills its workers
	@$(BIN)/python -m tests.bench.bench_poison

bench-races: install ## a thousand cancels and run-nows at their due moments, one server and three (RACES=)
	@$(BIN)/python -m tests.bench.bench_races

bench-dlq: install ## a million dead letters: pages, groups, rebuild, bulk replays under kills (ARGS=--write)
	@$(BIN)/python -m tests.bench.bench_dlq $(ARGS)

bench-secrets: install ## rotate 100,000 secrets under load and kills; the cost of the audit log (NUMBER= KILLS=)
	@$(BIN)/python -m tests.bench.bench_secrets

chaos: install assets ## the product under faults; fails if a job was lost or done twice (SEED=1 MINUTES=5 NODES=3 ONLY=F06 BROKEN=fence)
	@SEED="$(SEED)" MINUTES="$(MINUTES)" NODES="$(NODES)" ONLY="$(ONLY)" BROKEN="$(BROKEN)" HURRY="$(HURRY)" LOGS="$(LOGS)" $(BIN)/python -m tests.chaos

$(VENV)/.bench-installed: $(VENV)/.installed requirements-bench.txt
	@echo "· installing the rivals"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements-bench.txt
	@touch $@

conformity: install assets ## run the tests that show the deployment guide's points; write docs/conformity.md (POINTS="EV03 BK")
	@$(BIN)/python -m devstack.promtool
	@$(BIN)/python -m devstack.conformity $(POINTS)

migrate: install ## bring the database at DATABASE_URL to the newest schema
	@$(BIN)/alembic upgrade head

revision: install ## write a migration from the tables (MESSAGE="add x")
	@$(BIN)/python -m devstack.revision "$(MESSAGE)"

lock: install ## compile requirements*.txt from pyproject.toml
	@$(BIN)/uv pip compile pyproject.toml --quiet --no-header --universal --python-version 3.11 --generate-hashes -o requirements.txt
	@$(BIN)/uv pip compile pyproject.toml --group dev -c requirements.txt --quiet --no-header --universal --python-version 3.11 --generate-hashes -o requirements-dev.txt
	@$(BIN)/uv pip compile --group bench -c requirements-dev.txt --quiet --no-header --universal --python-version 3.11 --generate-hashes -o requirements-bench.txt
	@$(BIN)/uv pip compile --group sbom -c requirements-dev.txt --quiet --no-header --universal --python-version 3.11 --generate-hashes -o requirements-sbom.txt
	@echo "uv==$$($(BIN)/uv --version | cut -d' ' -f2)" | $(BIN)/uv pip compile - --quiet --no-header --universal --generate-hashes -o requirements-uv.txt

sbom: install ## what the image is made of, as CycloneDX: dist/sbom.cdx.json, dist/sbom-pages.cdx.json
	@mkdir -p dist
	@$(BIN)/cyclonedx-py requirements requirements.txt --pyproject pyproject.toml --output-reproducible --of JSON -o dist/sbom.cdx.json
	@$(BIN)/python -m devstack.node app/web/assets sbom --omit dev --package-lock-only --sbom-format cyclonedx > dist/sbom-pages.cdx.json

docs: install ## regenerate the generated pages of docs/
	@$(BIN)/python -m devstack.docs

clean: ## remove everything that was built (not the demo's data)
	rm -rf $(VENV) .tools app/web/static/build app/web/assets/node_modules .mypy_cache .ruff_cache .pytest_cache
