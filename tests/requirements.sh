#!/usr/bin/env bash
# Installs what the tests need beyond Rust, if it can (Debian, root); otherwise says what to install, and fails. The three
# programs of the API page, Redis, PostgreSQL, PgBouncer, systemd-socket-activate, the shells whose command lines are completed and the reader of
# manual pages are run for real.
set -euo pipefail

missing=()
for program in curl openssl node python3 redis-server redis-cli systemd-socket-activate mandoc zsh fish; do
    command -v "$program" >/dev/null || missing+=("$program")
done
# Debian has PostgreSQL's programs of each version in a folder of their own, and some programs where only root looks.
PATH=$PATH:/usr/sbin
postgres=(/usr/lib/postgresql/*/bin/initdb)
[ -x "${postgres[0]}" ] || command -v initdb >/dev/null || missing+=(initdb)
for program in psql pgbouncer setpriv; do
    command -v "$program" >/dev/null || missing+=("$program")
done
packages=()
for program in "${missing[@]:-}"; do
    case "$program" in
        "") ;;
        node) packages+=(nodejs) ;;
        redis-server) packages+=(redis-server) ;;
        redis-cli) packages+=(redis-tools) ;;
        initdb) packages+=(postgresql) ;;
        psql) packages+=(postgresql-client) ;;
        setpriv) packages+=(util-linux) ;;
        systemd-socket-activate) packages+=(systemd) ;;
        *) packages+=("$program") ;;
    esac
done

has_requests() { python3 -c 'import requests' 2>/dev/null; }
if [ ${#missing[@]} -eq 0 ] && ! has_requests; then
    packages+=(python3-requests)
fi

if [ ${#packages[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${packages[@]}" >/dev/null
    else
        echo "the tests need: ${packages[*]}" >&2
        echo "install them, on Debian with: sudo apt-get install ${packages[*]}" >&2
        exit 1
    fi
fi
if ! has_requests; then
    # A python3 that is not Debian's own does not see Debian's packages.
    python3 -m pip install --quiet requests || {
        echo "the tests need the Python package requests: python3 -m pip install requests" >&2
        exit 1
    }
fi
