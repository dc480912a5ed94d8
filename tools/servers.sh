#!/bin/sh
# Install the real servers and clients that the tests start, from Debian: PostgreSQL, curl.
set -eu
missing=
ls -d /usr/lib/postgresql/*/bin >/dev/null 2>&1 || missing="$missing postgresql"
command -v curl >/dev/null || missing="$missing curl"
[ -z "$missing" ] && exit 0
as_root=
[ "$(id -u)" = 0 ] || as_root='sudo -n'
echo "Installing$missing ..."
# shellcheck disable=SC2086 (a list of package names)
{ $as_root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq $missing >/dev/null; } || {
    echo "The tests need$missing. As root: apt-get install$missing; then make again." >&2
    exit 1
}
