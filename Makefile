# make demo | make test | make chaos | make reference | make lock: each sets itself up in .venv first, once.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# Where this is set, each of a thousand processes would compile torch and Ray again.
unexport PYTHONDONTWRITEBYTECODE
DEMO_STORE ?= runs/demo

.PHONY: demo test chaos reference test-without-cluster test-with-cluster check lock clean

demo: .venv/ready
	$(BIN)/python jobs/pipeline.py --demo --store $(DEMO_STORE)
	$(BIN)/python jobs/report.py --store $(DEMO_STORE)

# Both at once: the tests with a Ray cluster wait most of their time.
test: check
	$(MAKE) --jobs=2 test-without-cluster test-with-cluster

# Each in a folder of its own: two that clean up pytest's common one stumble over each other. Neighbours
# go to one process (worksteal), which makes what they share once.
test-without-cluster: .venv/ready
	folder=$$(mktemp -d) && OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not ray and not chaos" --basetemp $$folder/tests && rm -rf $$folder

test-with-cluster: .venv/ready
	folder=$$(mktemp -d) && $(BIN)/pytest -m "ray and not chaos" --basetemp $$folder/tests && rm -rf $$folder

# Minutes of nodes that vanish, and of a cluster that does.
chaos: .venv/ready
	$(BIN)/pytest -m chaos

# docs/reference.md, after a change of any command's options.
reference: .venv/ready
	$(BIN)/python -m docs.make_reference

# Cheapest first.
check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyrefly check

.venv/ready: requirements.lock
	@test -n "$(PYTHON)" || { echo "make: no python3.11 or newer on the PATH: install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9,<1"
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	@touch $@

# After a change of the ranges in pyproject.toml. No index address goes into the lock.
lock: .venv/ready
	$(BIN)/uv pip compile --universal --python-version 3.11 --group dev --upgrade --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock

clean:
	rm -rf .venv runs
