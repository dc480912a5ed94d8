#!/bin/sh
# Make .venv (where it is missing) and install exactly what the lock file $1 names, then VSE itself.
set -eu
lock=$1
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "VSE needs Python 3.11 or newer; '$python' is not. Name one: make PYTHON=/path/to/python3 ..." >&2
    exit 1
}

# Debian ships the module venv without the pip that it puts into an environment.
if ! [ -x .venv/bin/pip ] && ! "$python" -c 'import ensurepip' 2>/dev/null; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root='sudo -n'
    echo "Installing Debian's python3-venv ..."
    { $as_root apt-get update -qq && $as_root apt-get install -y -qq python3-venv >/dev/null; } || {
        echo "Python's venv is not complete here. As root: apt-get install python3-venv; then make again." >&2
        exit 1
    }
fi
if ! [ -x .venv/bin/pip ]; then
    rm -rf .venv
    "$python" -m venv .venv
fi

echo "Installing the packages of $lock ..."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
.venv/bin/python -m pip install --quiet --require-hashes --requirement "$lock"
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
