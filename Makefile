# make run   environment, then the tour: six DMControl tasks for seconds each, a game on which learning shows; table, plot, page
# make test  environment, then everything tox checks; with DEEP=1 the tests that take long, too
# make deep  environment, then the tests that take long, and no others
# make env   .venv with .venv/bin/covr-bench; seconds when nothing changed
# PYTHON=... picks the interpreter (3.10 or newer); the first suitable one on the PATH otherwise.

VENV := .venv
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)

.PHONY: run test deep env lock clean

run: env
	$(VENV)/bin/covr-bench run --suite dmc6 --budget smoke --agent random --agent drqv2
	$(VENV)/bin/covr-bench run --suite effect --budget short --agent dpl --variant prior=oracle --variant prior=zero --seeds 1-3
	$(VENV)/bin/covr-bench report

test: env
	$(VENV)/bin/tox $(if $(DEEP),-- -m "not cluster and not servers")

deep: env
	OMP_NUM_THREADS=1 LP_NUM_THREADS=0 $(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile \
		--no-loadscope-reorder --import-mode importlib --durations=20 -m deep tests

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "covr-bench needs Python 3.10 to 3.13 on the PATH (or make PYTHON=/path/to/python)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "this Python cannot make environments; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps dm_control
	@touch $@

# Pins every dependency for every supported Python. torch is held back: newer builds are not everywhere. Trackers that
# would hold others back (mlflow: protobuf, trackio: pillow) are not pinned; tox -e trackers tests them by themselves.
lock:
	printf 'torch==2.13.0\n' > .torch-pin
	uv pip compile --universal --python-version 3.10 $(addprefix --extra ,tensorboard ray docs test lint) \
		--upgrade -c .torch-pin \
		--no-header --no-annotate -o constraints.txt pyproject.toml
	rm .torch-pin

clean:
	rm -rf $(VENV) .tox .mypy_cache .ruff_cache .pytest_cache
