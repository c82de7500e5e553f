#!/usr/bin/env bash
# jq 1.6: strflocaltime("%z") writes local time with the offset of UTC.
#
# Debian 12: jq 1.6-2.1+deb12u3. The manual says that strflocaltime formats a time "in the local time zone"; in TZ=Asia/Seoul the
# hours are Korea's, but "%z" is +0000, so the resulting date is nine hours ahead of the input. "%Z" is
# right (KST). All conversions to local broken-down time lose the offset, also `localtime | strftime("%z")`, because the
# value in between has no field for it.
# Workaround: `todate`, which writes UTC with Z. jq 1.7 writes +0900.
#
# Seen, for 1795473488 (2026-11-23T22:38:08Z):
#   strflocaltime("%FT%T%z")          2026-11-24T07:38:08+0000
#   strflocaltime("%FT%T%Z")          2026-11-24T07:38:08KST
#   localtime | strftime("%FT%T%z")   2026-11-24T07:38:08+0000
#   todate                            2026-11-23T22:38:08Z
#   strflocaltime, read again         1795505888, which is 32400 more
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
fetch() {
    apt-get download -qq -o APT::Sandbox::User=root "$1" 2>/dev/null ||
        { echo "apt-get update first: $1 cannot be fetched" >&2; exit 1; }
}
fetch jq=1.6-2.1+deb12u3
fetch libjq1=1.6-2.1+deb12u3
fetch libonig5 # for regular expressions
for package in *.deb; do dpkg-deb -x "$package" .; done
export TZ=Asia/Seoul
libraries=$(dirname "$(echo "$folder"/usr/lib/*/libjq.so.1)")

jq() { LD_LIBRARY_PATH=$libraries "$folder/usr/bin/jq" -nr "$@"; }
expect() { # EXPRESSION WANTED
    found=$(jq "1795473488 | $1")
    printf '%-52s %s\n' "$1" "$found"
    [ "$found" = "$2" ] || { echo "changed: it was $2" >&2; exit 1; }
}

version=$(LD_LIBRARY_PATH=$libraries "$folder/usr/bin/jq" --version)
echo "$version"
[ "$version" = jq-1.6 ] || { echo "this is not jq 1.6" >&2; exit 1; }
expect 'strflocaltime("%FT%T%z")' 2026-11-24T07:38:08+0000
expect 'strflocaltime("%FT%T%Z")' 2026-11-24T07:38:08KST
expect 'localtime | strftime("%FT%T%z")' 2026-11-24T07:38:08+0000
expect 'todate' 2026-11-23T22:38:08Z
read_again=$(date -d "$(jq '1795473488 | strflocaltime("%FT%T%z")')" +%s)
echo "strflocaltime, read again by date: $read_again"
[ "$read_again" = $((1795473488 + 32400)) ]
