#!/bin/sh
# Make the environments of other catalogues that tests start, where they are missing: a server of 'rucio',
# clients of 'dirac' and 'alien'.
# Each is outside the tree, in the user's cache, one for each requirements/NAME.lock: their packages do not
# agree with those of VSE. Prints where it is; tests/servers/clients.py looks there.
#
# DIRAC builds two of its packages; its tests start a MariaDB. From Debian:
#   apt-get install mariadb-server libmariadb-dev libssl-dev swig pkg-config g++ python3-dev
set -eu
name=${1:?name one of: rucio dirac alien}
lock=$(dirname "$0")/../requirements/$name.lock
python=${PYTHON:-python3}
kept=${XDG_CACHE_HOME:-$HOME/.cache}/vse
place=$kept/$name-$(sha256sum "$lock" | cut -c1-12)

if ! [ -e "$place/ready" ]; then
    echo "Installing $name for the tests into $place ..." >&2
    mkdir -p "$kept"
    rm -rf "$place"
    "$python" -m venv "$place" || {
        echo "Python's venv is not complete here. As root: apt-get install python3-venv; then again." >&2
        exit 1
    }
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
    "$place/bin/python" -m pip install --quiet --no-deps --require-hashes --requirement "$lock" >&2
    touch "$place/ready"
fi
echo "$place"
