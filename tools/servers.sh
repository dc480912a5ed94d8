#!/bin/sh
# Install the real servers and clients that tests ('test') or benchmarks ('bench') start, from Debian.
set -eu
missing=
command -v curl >/dev/null || missing="$missing curl"
case ${1:-test} in
test) ls -d /usr/lib/postgresql/*/bin >/dev/null 2>&1 || missing="$missing postgresql" ;;
bench) [ -x /usr/sbin/nginx ] || missing="$missing nginx-light" ;;
esac
[ -z "$missing" ] && exit 0
as_root=
[ "$(id -u)" = 0 ] || as_root='sudo -n'
echo "Installing$missing ..."
# shellcheck disable=SC2086 (a list of package names)
{ $as_root apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null; } || {
    echo "This needs$missing. As root: apt-get install$missing; then make again." >&2
    exit 1
}
