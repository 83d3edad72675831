# Targets: demo, proof, test, slow, chaos, reference, lock. Each creates .venv first if it does not exist.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PYTEST = $(BIN)/pytest -m "$(MARKS)" --basetemp $$folder/tests --durations=25
MARKS ?= not chaos
# If this were set, each of a thousand processes would compile torch and Ray again.
unexport PYTHONDONTWRITEBYTECODE
DEMO_STORE ?= runs/demo

.PHONY: demo proof test slow chaos reference test-without-cluster test-with-cluster check lock clean

demo: .venv/ready
	$(BIN)/python jobs/pipeline.py --demo --store $(DEMO_STORE)
	$(BIN)/python jobs/report.py --store $(DEMO_STORE)

# Takes hours, says how many before it starts, and writes docs/results.md. SCENES=FOLDER adds a corpus in the
# layout of TAU; STUDENT=RECIPE takes another student than the demo's.
proof: .venv/ready
	$(BIN)/python benchmarks/proof.py $(if $(SCENES),--scenes "$(SCENES)") $(if $(STUDENT),--student $(STUDENT))

# Run this before every push.
test: check
	$(MAKE) --jobs=2 test-without-cluster test-with-cluster MARKS="not slow and not chaos"

# The longer tests: every export, the browser, 200 kills, the schemas of the clouds.
slow: .venv/ready
	$(MAKE) --jobs=2 test-without-cluster test-with-cluster MARKS="slow and not chaos"

# Both halves run at once, because the tests with a Ray cluster wait most of their time. Each half has a
# folder of its own, because two processes that clean up pytest's common folder disturb each other.
# Each collects only its own files. Neighbouring tests run in one process (worksteal), so that their
# shared fixtures are made once.
ON_RAY := tests/*/test_*_on_ray.py
test-without-cluster: .venv/ready
	folder=$$(mktemp -d) && OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist worksteal --ignore-glob="$(ON_RAY)" && rm -rf $$folder

test-with-cluster: .venv/ready
	folder=$$(mktemp -d) && $(PYTEST) $(ON_RAY) && rm -rf $$folder

# Takes minutes: nodes are lost, and then a whole cluster.
chaos: .venv/ready
	$(BIN)/pytest -m chaos

# Writes docs/reference.md again, after a change of any command's options.
reference: .venv/ready
	$(BIN)/python -m docs.make_reference

# All checks but the tests, the cheapest first.
check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyrefly check

# The lock is complete. Without --no-deps, aisfx would demand a numpy of 2022.
.venv/ready: requirements.lock
	@test -n "$(PYTHON)" || { echo "make: no python3.11 or newer on the PATH: install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9,<1"
	$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python -r requirements.lock
	@touch $@

# Run this after a change of the ranges in pyproject.toml. The lock contains no address of an index.
lock: .venv/ready
	$(BIN)/uv pip compile --universal --python-version 3.11 --group dev --upgrade --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock

clean:
	rm -rf .venv runs
