#!/bin/sh
# Pin every package anew, with hashes and without addresses: requirements/*.lock.
set -eu
.venv/bin/python -m pip install --quiet uv
compile() {
    .venv/bin/uv pip compile "$@" --quiet --no-config --universal \
        --python-version 3.11 --generate-hashes --upgrade --no-header --no-annotate --no-emit-index-url
}
compile pyproject.toml requirements/build.in --output-file requirements/run.lock
compile pyproject.toml requirements/build.in --extra coffea --extra postgresql --extra xrootd --extra s3 --extra fsspec --extra parquet --extra batch --extra root --group dev --constraint requirements/run.lock --output-file requirements/dev.lock
compile requirements/rucio.in --output-file requirements/rucio.lock
compile requirements/alien.in --output-file requirements/alien.lock
compile requirements/dirac.in --no-deps --output-file requirements/dirac.lock
