#!/usr/bin/env bash
# With libfaketime 0.9.10 and an absolute time, `date -u` does not print UTC.
#
# Debian 12: libfaketime 0.9.10-2.1, coreutils 9.1-1, busybox 1:1.35.0. In TZ=Asia/Seoul, `date -u` with FAKETIME='2026-11-24 07:38:08' (or
# `faketime -f` with the same) prints Korean time, and `date -u +%FT%TZ` labels it as UTC: nine hours off. With a relative
# time (FAKETIME=+1y, or `faketime` without -f, which makes it one) `-u` works.
# Why: to read an absolute time the library calls mktime() before main(), which fixes the zone. `date -u` then sets TZ=UTC0 and
# calls localtime_r(), which by POSIX need not read TZ again, and in glibc does not. Without the library it is the first
# such call. So a test under libfaketime of a program that sets TZ and calls localtime_r() tests another zone.
# Workaround: TZ=UTC in the environment before the program begins.
#
# Seen:
#   plain, -u                UTC
#   relative, -u             UTC
#   absolute, -u             KST
#   absolute, -u, the label  2026-11-24T07:38:08Z, where 2026-11-23T22:38:08Z is meant
#   absolute, -u, BusyBox    KST
#   absolute, TZ=UTC         UTC
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for package in libfaketime=0.9.10-2.1 busybox; do
    apt-get download -qq -o APT::Sandbox::User=root "$package" 2>/dev/null ||
        { echo "apt-get update first: $package cannot be fetched" >&2; exit 1; }
done
for package in *.deb; do dpkg-deb -x "$package" .; done
export TZ=Asia/Seoul
library=$(echo "$folder"/usr/lib/*/faketime/libfaketime.so.1)
busybox=$(echo "$folder"/bin/busybox)

faked() { # TIME COMMAND...
    LD_PRELOAD=$library FAKETIME=$1 "${@:2}"
}
expect() { # WHAT WANTED FOUND
    printf '%-24s %s\n' "$1" "$3"
    [ "$2" = "$3" ] || { echo "changed: $1 was $2" >&2; exit 1; }
}

date --version | head -n 1
expect "plain, -u" UTC "$(date -u +%Z)"
expect "relative, -u" UTC "$(faked +1y date -u +%Z)"
expect "absolute, -u" KST "$(faked '2026-11-23 22:38:08' date -u +%Z)"
expect "absolute, -u, the label" 2026-11-24T07:38:08Z "$(faked '2026-11-24 07:38:08' date -u +%FT%TZ)"
expect "absolute, -u, BusyBox" KST "$(faked '2026-11-23 22:38:08' "$busybox" date -u +%Z)"
expect "absolute, TZ=UTC" UTC "$(TZ=UTC faked '2026-11-23 22:38:08' date +%Z)"
