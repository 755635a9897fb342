#!/bin/sh
# Sees to it that the programs of the tests' private PostgreSQL, Redis and Prometheus are there; it starts none.
# As root on Debian what is missing is installed; otherwise a sentence says what to do.
set -eu

has_postgresql() {
    command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
}

has_redis() {
    command -v redis-server >/dev/null
}

has_prometheus() {
    command -v prometheus >/dev/null && command -v promtool >/dev/null
}

missing=
has_postgresql || missing="$missing postgresql"
has_redis || missing="$missing redis-server"
has_prometheus || missing="$missing prometheus"
if [ -z "$missing" ]; then
    exit 0
fi

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    printf 'The tests start a PostgreSQL, a Redis and a Prometheus of their own; missing here:%s.\n' "$missing" >&2
    printf 'Install them, for example: sudo apt-get install%s\n' "$missing" >&2
    exit 1
fi

# Debian's packages start what they install. A policy that says no (101) is its documented way to prevent it, and
# createcluster.conf keeps postgresql from making a cluster of its own.
policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.conf
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
if [ ! -e "$cluster" ]; then
    mkdir -p "$(dirname "$cluster")"
    echo 'create_main_cluster = false' >"$cluster"
fi
apt-get update -q
# shellcheck disable=SC2086  # the names are words of this script
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends -o Dpkg::Options::=--force-confold $missing
