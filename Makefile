# Every task of the project; `make help` lists them. Needs only make, git and Python 3.11 or 3.12.
.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
DEMO_HOME ?= .ai-infra-demo

.PHONY: help demo test bench test-postgresql mutation check checkov infra peers lock sbom examples clean preview up pulumi-stacks

help: ## list the tasks
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: .venv/.demo ## the main job, from data set to canaried serving and offline verification
	$(BIN)/ai-infra demo --home $(DEMO_HOME)

test: .venv/.dev ## all tests (peers that are absent are skipped by name; `make peers` builds them; some: PYTEST_ADDOPTS="tests/unit -k quorum")
	$(PYTEST)

test-postgresql: .venv/.dev ## the suites over databases, on PostgreSQL instead of SQLite
	TEST_DATABASE=postgresql REQUIRE_PEERS=1 $(PYTEST) $(ON_POSTGRESQL)

# Files of tests are shared out to as many processes, each of which starts the servers that its tests need. In their own order, which
# ends with small ones: by the number of their tests, those of few long ones would come last, and one process wait for the other.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Every file of tests whose databases follow TEST_DATABASE: a test of one that is missing here fails (tests/conftest.py).
ON_POSTGRESQL := tests/attacks/test_http.py tests/attacks/test_policy.py tests/attacks/test_promotion_table.py \
	tests/attacks/test_registry.py tests/attacks/test_verify.py tests/contract/test_checkpoint_signer.py \
	tests/faults/test_audit_publish.py tests/faults/test_host.py tests/faults/test_promotion.py tests/faults/test_quarantine.py \
	tests/faults/test_review.py tests/faults/test_sentinelnet.py tests/faults/test_signing_faults.py tests/faults/test_table.py \
	tests/faults/test_training_faults.py tests/integration/test_audit_fsck.py tests/integration/test_witness.py \
	tests/unit/test_asof.py tests/unit/test_audit_check.py tests/unit/test_audit_http.py tests/unit/test_audit_witnesses.py \
	tests/unit/test_cli_records.py tests/unit/test_cli_rollout.py tests/unit/test_log_snapshot.py tests/unit/test_logfile.py \
	tests/unit/test_platform_http.py tests/unit/test_platform_threads.py tests/unit/test_promotion.py \
	tests/unit/test_reconcile.py tests/unit/test_registry_records.py tests/unit/test_sentinelnet_http.py \
	tests/unit/test_sentinelnet_oversight.py tests/unit/test_sentinelnet_service.py tests/unit/test_serving_kept.py \
	tests/unit/test_serving_service.py tests/unit/test_signing_domain.py tests/unit/test_training_http.py \
	tests/unit/test_training_service.py tests/unit/test_trustfile.py tests/unit/test_verify_archive.py \
	tests/unit/test_verify_facts.py tests/unit/test_verify_links.py tests/unit/test_verify_prediction.py

mutation: .venv/.dev ## how many small changes of the code behind verdicts the tests notice (an hour; MODULES="core/merkle.py …", OUT=folder, RECORD=1)
	$(BIN)/python -m tests.mutation $(MODULES) $(if $(OUT),--out $(OUT)) $(if $(RECORD),--record)

check: .venv/.dev ## linters and types
	$(BIN)/ruff check .
	$(BIN)/mypy services infra components stacks
	@opa=$$($(BIN)/python -c 'from tests.peers import find; print(find("opa") or "")'); \
	if [ -n "$$opa" ]; then $$opa check --strict policies/rego; else echo "opa is not here: policies are not checked"; fi

bench: .venv/.dev checkov ## measure against the targets and against peers, and write docs/benchmarks.md (on a quiet machine; 20 minutes)
	$(BIN)/python -m benchmarks

checkov: .venv-checkov/.ready ## set up checkov in an environment of its own, for `ai-infra infra check` of the ground

infra: .venv/.dev checkov ## set up what `ai-infra infra` needs beside Terraform: Pulumi's packages, and checkov

peers: .venv/.dev checkov ## build the servers and tools that tests run against (Go programs, into a cache outside the repository)
	$(BIN)/python -m tests.peers

lock: .venv/.dev ## resolve requirements/*.lock anew
	$(BIN)/uv pip compile $(LOCK) --extra train --extra serve pyproject.toml -o requirements/demo.lock
	$(BIN)/uv pip compile $(LOCK) --extra train --extra serve --extra s3 --extra postgres --extra vault --extra traces --extra wasm --extra infra --extra dev \
		-c requirements/demo.lock pyproject.toml -o requirements/dev.lock
	$(BIN)/uv pip compile $(LOCK) --extra train --extra cluster-train --extra serve --extra s3 --extra kms --extra postgres --extra vault --extra traces \
		-c requirements/dev.lock pyproject.toml -o requirements/image.lock
	$(BIN)/uv pip compile $(LOCK) requirements/mlflow.in -o requirements/mlflow.lock
	$(BIN)/uv pip compile $(LOCK) -c requirements/dev.lock requirements/model-signing.in -o requirements/model-signing.lock
	$(BIN)/uv pip compile $(LOCK) requirements/checkov.in -o requirements/checkov.lock

sbom: .venv/.dev ## what the image holds of other people's, as CycloneDX, from its lock (SBOM=build/sbom.cdx.json)
	@mkdir -p $(dir $(SBOM))
	@$(BIN)/python -W 'ignore:$(NO_GRAPH)' -m cyclonedx_py requirements --output-reproducible --pyproject pyproject.toml -o $(SBOM) requirements/image.lock
	@echo "$(SBOM): what requirements/image.lock pins"

SBOM ?= build/sbom.cdx.json
# A lock lists packages and hashes, not which of them needs which: the bill has no graph of dependencies, of which its writer warns.
NO_GRAPH := The Component this BOM is describing

examples: .venv/.dev ## write stacks/<env>/inference and stacks/<env>/jobs anew, after a change of a builder or of a configuration
	$(BIN)/python -m stacks.examples

LOCK := -q --universal --python-version 3.11 --no-emit-index-url --generate-hashes --no-header

preview: pulumi-stacks ## what would change in an environment's layers, in order (ENV=dev, LAYERS="ground platform"; against the account where pulumi is logged in)
	@$(foreach stack,$(STACKS),if $(READY_$(stack:$(ENV)-%=%)) >/dev/null 2>&1; \
		then pulumi preview --stack $(stack) --config-file stacks/$(ENV)/Pulumi.$(stack).yaml; \
		else $(BIN)/ai-infra infra plan --env $(ENV) --layer $(stack:$(ENV)-%=%); fi && ):

up: pulumi-stacks ## make an environment's layers, in order (ENV=dev, LAYERS=ground, UP_OPTIONS=--yes; needs pulumi, logged in to the state of the environment)
	@{ command -v pulumi && pulumi whoami; } >/dev/null || { echo "install Pulumi 3.272 or newer, then: pulumi login s3://BUCKET/$(ENV)?region=REGION (deployment.md)" >&2; exit 2; }
	$(foreach stack,$(STACKS),pulumi up --stack $(stack) --config-file stacks/$(ENV)/Pulumi.$(stack).yaml $(UP_OPTIONS) && ):

# A layer is there when its configuration is. Each needs the one before it: what that one would write, no preview knows.
READY_ground := pulumi whoami
READY_platform = pulumi stack output cluster_name --stack $(ENV)-ground
READY_apps = pulumi stack output issuer --stack $(ENV)-platform
LAYERS := ground platform apps
STACKS = $(strip $(foreach layer,$(LAYERS),$(patsubst stacks/$(ENV)/Pulumi.%.yaml,%,$(wildcard stacks/$(ENV)/Pulumi.$(ENV)-$(layer).yaml))))

pulumi-stacks: .venv/.dev
	@test -n "$(STACKS)" || { echo "no configuration of $(LAYERS) in stacks/$(ENV): say ENV=dev, staging or prod, and LAYERS of ground platform apps, or none" >&2; exit 2; }

clean: ## remove the environment and the demo's home
	rm -rf .venv .venv-* $(DEMO_HOME) $(DEMO_HOME)-people $(DEMO_HOME)-witness

.venv/bin/uv: requirements/uv.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is not on PATH; set PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.lock

.venv/.demo: requirements/demo.lock pyproject.toml | .venv/bin/uv
	@test -e .venv/.dev || echo "setting up .venv from requirements/demo.lock: some minutes the first time"
	@test -e .venv/.dev || $(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements/demo.lock
	@test -e .venv/.dev || $(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev: requirements/dev.lock pyproject.toml | .venv/bin/uv
	@echo "setting up .venv from requirements/dev.lock: some minutes the first time"
	$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r requirements/dev.lock
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.venv-checkov/.ready: requirements/checkov.lock | .venv/bin/uv
	$(BIN)/uv venv -q --clear --python $(BIN)/python .venv-checkov
	$(BIN)/uv pip install -q --python .venv-checkov/bin/python --require-hashes -r requirements/checkov.lock
	@touch $@
