# Everything sets itself up: a virtual environment in .venv, with the pinned packages of requirements/.
#   make demo    the main job, from nothing to a mass plot
#   make test    every test
#   make check   the quick ones: style, types, layers, unit tests (under a minute)
#   make drivers the conformance suites of the drivers; docs/drivers.md is what passed
#   make soak    an hour of injected faults under load, on both databases; SOAK_MINUTES, SOAK_KILLS change it
#   make bench   speed, as ratios measured in one run; table on screen, JSON in bench/results
#   make lock    pin the newest packages anew

PYTHON ?= python3
BIN := .venv/bin
DEMO_OPTIONS ?=

# Python keeps what it compiled: without it every process of every test compiles all of VSE anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test check drivers soak bench lock clean

help:
	@sed -n 's/^#   //p' Makefile

.venv/ready-run: requirements/run.lock pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" sh tools/setup.sh requirements/run.lock
	@touch $@

.venv/ready-dev: requirements/dev.lock .venv/ready-run
	@PYTHON="$(PYTHON)" sh tools/setup.sh requirements/dev.lock
	@touch $@

demo: .venv/ready-run
	@$(BIN)/vse demo $(DEMO_OPTIONS)

OTHERS := rucio alien dirac

.venv/ready-test: tools/servers.sh tools/clients.sh $(OTHERS:%=requirements/%.lock) .venv/ready-dev
	@sh tools/servers.sh test
	@for one in $(OTHERS); do PYTHON="$(PYTHON)" sh tools/clients.sh $$one >/dev/null || exit; done
	@touch $@

test: .venv/ready-test
	$(BIN)/python -m pytest -n 2 --dist loadfile

drivers: .venv/ready-test
	$(BIN)/python -m pytest -q tests/storage -n 2 --dist loadfile --driver-record docs/driver-record.json
	$(BIN)/python tools/driver_table.py > docs/drivers.md

soak: .venv/ready-test
	PYTHONPATH=tests $(BIN)/python -m soak

check: .venv/ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -q -m "not slow" -n 2 --dist loadfile

bench: .venv/ready-dev
	@sh tools/servers.sh bench
	@PYTHON="$(PYTHON)" sh tools/clients.sh rucio >/dev/null
	$(BIN)/python -m bench

lock: .venv/ready-dev
	sh tools/lock.sh

clean:
	rm -rf .venv vse-demo
