# `make run` and `make test` need Python 3.11 or newer, make and git; they install everything else.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
UV := .tools/bin/uv
NODE := tests/node
WITH_NODE := PATH="$(CURDIR)/$(BIN):$$PATH" REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true
# What looks like a secret but is none: digests, the documented token, texts in tests.
NO_SECRETS := --exclude-files '^(requirements/|docs/openapi/|src/imageapi/api/examples\.json|.*package-lock\.json)' \
	--exclude-secrets 'hunter2|^secret$$|^short$$|secret that only|^another secret, ' \
	--exclude-secrets '^eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9\.eyJleHAiOjE0NTU1|^MDAwNVRYaklBQVci' \
	--exclude-secrets '^5A98D4D3E5D39024ABF237BE55E99B15$$|Asia/Tokyo'
# worksteal: tests of one way and one file mostly stay in one process, and no process is left idle.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal
# `make test` runs by other ways only the tests that are marked every_way; `make test-ways` all of these.
WAYS ?= pgbouncer hosts workers services
WAYS_TESTS := documented_exchange untagged images editor uploader routes headers mutations attacks \
	model photographs import_export
SAMPLE := 00324000005TXjIAAW
FOLDER ?= dist/sdk/$(LANG)
PHOTOS_FOLDER = $(patsubst ~/%,$(HOME)/%,$(PHOTOS))
ALBUM ?= $(if $(PHOTOS),photos,$(SAMPLE))
export UV_PYTHON_DOWNLOADS := never
export UV_NO_CONFIG := 1
export UV_LINK_MODE := copy
export UV_COMPILE_BYTECODE := 1

.PHONY: help run test test-ways install check format docs dist bench sdk drill soak scale lock secrets clean

help:  ## list these commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: install  ## start the service with a sample album, or your own: make run PHOTOS=~/Pictures PORT=9000 HOST=0.0.0.0
	@$(if $(PHOTOS),test -d "$(PHOTOS_FOLDER)" || { echo "PHOTOS=$(PHOTOS) is no folder" >&2; exit 1; })
	@$(BIN)/imageapi import examples/untagged.json
	@$(if $(PHOTOS),$(BIN)/imageapi import "$(PHOTOS_FOLDER)" --album $(ALBUM) || test $$? -eq 1)
	@exec $(BIN)/imageapi serve --host $(HOST) --port $(PORT) --show-curl $(ALBUM)

test: $(VENV)/.dev $(VENV)-docs/.installed $(VENV)-sdk/.installed $(NODE)/node_modules  ## run the whole test suite (arguments for pytest: make test ARGS="-n0 -k tokens")
	@$(PYTEST) $(ARGS)

test-ways: $(VENV)/.dev  ## run the tests of HTTP and the commands by every way to the database and the service
	@$(PYTEST) $(WAYS:%=--through=%) --at-least=$$((350 * $(words $(WAYS)))) $(WAYS_TESTS:%=tests/test_%.py) $(ARGS)

install: $(VENV)/.installed  ## install .venv/bin/imageapi

check: $(VENV)/.dev $(NODE)/node_modules  ## check formatting, lint, types, layers, secrets, the OpenAPI document
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check --output-format concise .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook $(NO_SECRETS)
	@mkdir -p dist && $(BIN)/imageapi openapi > dist/openapi.json
	@$(WITH_NODE) $(NODE)/node_modules/.bin/redocly lint dist/openapi.json --config $(NODE)/redocly.yaml

format: $(VENV)/.dev  ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --output-format concise .

docs: $(VENV)-docs/.installed  ## build the docs as a site, in dist/docs
	@$(VENV)-docs/bin/python -m sphinx --quiet --fail-on-warning --nitpicky docs dist/docs
	@echo "The docs are in dist/docs/index.html"

dist: $(VENV)/.installed  ## build the wheel and the sdist, in dist/
	@rm -f dist/imageapi-*
	@$(BIN)/hatchling build --target sdist --target wheel

bench: $(VENV)/.dev $(VENV)-bench/.installed benchmarks/fastify/node_modules  ## compare the listing with its peers, and uploads with Pillow
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.pictures

sdk: $(VENV)/.installed $(VENV)-sdk/.installed  ## generate a client: make sdk LANG=python|python-httpx|typescript|java|go
	@mkdir -p dist && $(BIN)/imageapi openapi > dist/openapi.json
	@$(VENV)-sdk/bin/python scripts/make_sdk.py "$(if $(filter command line,$(origin LANG)),$(LANG))" \
		"$(FOLDER)" dist/openapi.json
	@echo "The client is in $(FOLDER); docs/sdk.md says how to use it"

drill: $(VENV)/.dev  ## import and export 100,000 records; kill imports, uploads and changes at any moment; migrate a million images
	@$(BIN)/python scripts/drill_import.py
	@$(BIN)/python scripts/drill_uploads.py
	@$(BIN)/python scripts/drill_migrations.py

soak: $(VENV)/.dev  ## run half an hour of mixed load: memory and response times must not grow
	@$(BIN)/python scripts/drill_soak.py

scale: $(VENV)/.dev  ## time the same calls with 10 thousand and with 10 million images (20 minutes, 20 GB)
	@$(BIN)/python scripts/drill_scale.py

secrets:  ## create the files that docker-compose.yml reads its secrets from
	@PYTHON=$(PYTHON) sh scripts/make-secrets

clean:  ## remove what was installed; never the data
	rm -rf $(VENV) $(VENV)-* benchmarks/fastify/node_modules $(NODE)/node_modules .tools dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The installer, pinned by hash. `--target` works where Debian refuses a plain `pip install`. If this
# Python has no pip, a venv has one.
$(UV): requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12" >&2; exit 1; }
	@rm -rf .tools
	@if $(PYTHON) -m pip --version >/dev/null 2>&1; then \
		PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_ROOT_USER_ACTION=ignore $(PYTHON) -m pip install --quiet \
			--disable-pip-version-check --target .tools --require-hashes -r requirements/uv.txt; \
	elif $(PYTHON) -m venv .tools >/dev/null 2>&1; then \
		.tools/bin/python -m pip install --quiet --disable-pip-version-check \
			--require-hashes -r requirements/uv.txt; \
	else \
		rm -rf .tools; \
		echo "This Python has neither pip nor venv: install one (Debian: apt-get install python3-pip)" >&2; \
		exit 1; \
	fi
	@touch $(UV)

$(VENV)/bin/python: | $(UV)
	@$(UV) venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)

$(VENV)/.installed: requirements/run.txt requirements/build.txt pyproject.toml | $(UV) $(VENV)/bin/python
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements/run.txt requirements/build.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

# Separate environments: for the benchmark's peers, for building the docs, for the SDKs' generators.
$(VENV)-%/.installed: requirements/%.txt | $(UV)
	@$(UV) venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)-$*
	@$(UV) pip sync --quiet --python $(VENV)-$*/bin/python --require-hashes $<
	@touch $@

# Node.js comes in a wheel, so that it need not be installed on the machine.
$(NODE)/node_modules: $(NODE)/package-lock.json | $(VENV)/.dev
	@cd $(NODE) && $(WITH_NODE) npm ci --silent --no-audit --no-fund && touch node_modules

# Without npm the benchmark runs without Fastify, and reports that.
benchmarks/fastify/node_modules: benchmarks/fastify/package-lock.json
	@if command -v npm >/dev/null; then \
		cd benchmarks/fastify && npm ci --silent --no-audit --no-fund && touch node_modules; \
	fi

lock: $(UV)  ## pin the newest versions that fit, by hash
	@for group in run build dev bench docs sdk; do \
		case $$group in run) what=pyproject.toml;; *) what="--group $$group";; esac; \
		case $$group in dev) what="pyproject.toml --group dev --constraint requirements/run.txt";; esac; \
		$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
			--no-annotate --custom-compile-command "make lock" $$what -o requirements/$$group.txt; \
	done
	@echo uv | $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --custom-compile-command "make lock" - -o requirements/uv.txt
