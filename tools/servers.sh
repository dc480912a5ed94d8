#!/bin/sh
# Install the real servers and clients that tests ('test') or benchmarks ('bench') start, from Debian.
# What is there already is left alone, and no service is left running: tests start their own, as they need them.
set -eu

# A package, and the program or file that shows that it is there.
common='
curl curl
xrootd-server xrootd
xrootd-client xrdcp
'
case ${1:-test} in
test) wanted="$common
apache2-bin /usr/sbin/apache2
ceph-common ceph
ceph-mon ceph-mon
ceph-osd ceph-osd
gfal2-plugin-file /usr/lib/*/gfal2-plugins/libgfal_plugin_file.so
gfal2-plugin-gridftp /usr/lib/*/gfal2-plugins/libgfal_plugin_gridftp.so
gfal2-plugin-http /usr/lib/*/gfal2-plugins/libgfal_plugin_http.so
gfal2-plugin-srm /usr/lib/*/gfal2-plugins/libgfal_plugin_srm.so
gfal2-plugin-xrootd /usr/lib/*/gfal2-plugins/libgfal_plugin_xrootd.so
globus-gass-copy-progs globus-url-copy
globus-gridftp-server-progs /usr/sbin/globus-gridftp-server
g++ g++
libmariadb-dev /usr/include/mariadb/mysql.h
libssl-dev /usr/include/openssl/ssl.h
libnginx-mod-http-dav-ext /usr/lib/nginx/modules/ngx_http_dav_ext_module.so
mariadb-server mariadbd
nginx-extras /usr/sbin/nginx
openssh-server /usr/sbin/sshd
pkg-config pkg-config
postgresql /usr/lib/postgresql/*/bin/postgres
python3-dev /usr/include/python3*/Python.h
python3-gfal2-util /usr/lib/python3/dist-packages/gfal2_util/__init__.py
radosgw radosgw
slurm-wlm /usr/sbin/slurmctld
slurm-wlm /usr/sbin/slurmd
swig swig
" ;;
bench) wanted="$common
nginx-light /usr/sbin/nginx
" ;;
*)
    echo "servers.sh: '$1' is neither 'test' nor 'bench'" >&2
    exit 2
    ;;
esac

missing=$(
    echo "$wanted" | while read -r package proof; do
        # shellcheck disable=SC2086 (a pattern)
        [ -z "$package" ] || command -v "$proof" >/dev/null || ls -d $proof >/dev/null 2>&1 || echo "$package"
    done | sort -u | tr '\n' ' '
)
[ -z "$missing" ] && exit 0

as_root=
[ "$(id -u)" = 0 ] || as_root='sudo -n'
policy=/usr/sbin/policy-rc.d # where it says 101, Debian's packages start no service
log=$(mktemp)
tidy() {
    [ -z "${made_policy:-}" ] || $as_root rm -f "$policy"
    rm -f "$log"
}
trap tidy EXIT
install_all() {
    $as_root true || return
    if [ ! -e "$policy" ]; then
        made_policy=yes
        printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null && $as_root chmod 755 "$policy" || return
    fi
    $as_root apt-get update -qq || return
    # shellcheck disable=SC2086 (a list of package names)
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
}
echo "Installing $missing..."
install_all >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    echo "This needs $missing. As root: apt-get install $missing; then make again." >&2
    exit 1
}
