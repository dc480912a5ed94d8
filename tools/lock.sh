#!/bin/sh
# Pin every package anew, with hashes and without addresses: requirements/{run,dev}.lock.
set -eu
.venv/bin/python -m pip install --quiet uv
compile() {
    .venv/bin/uv pip compile pyproject.toml requirements/build.in "$@" --quiet --no-config --universal \
        --python-version 3.11 --generate-hashes --upgrade --no-header --no-annotate --no-emit-index-url
}
compile --output-file requirements/run.lock
compile --extra coffea --extra postgresql --extra xrootd --extra s3 --extra fsspec --group dev --constraint requirements/run.lock --output-file requirements/dev.lock
