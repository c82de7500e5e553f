#!/usr/bin/env bash
# Perl's POSIX::strftime("%z", gmtime) writes UTC with the offset of local time.
#
# Debian 12: perl 5.36.0-7+deb12u4. gmtime() returns the fields of UTC, and strftime() gets only these: it interprets them as local
# time and writes the offset of TZ, so that in Asia/Seoul the date is nine hours behind the input. "%Z" says KST and "%s"
# is nine hours less. C's strftime("%z") of gmtime()'s result writes +0000, as do the ports of it in Python, gawk, Lua, Tcl and
# Guile, because a struct tm holds the offset; so does Perl's own Time::Piece, in the same program.
# Workaround: a literal Z, strftime("%Y-%m-%dT%H:%M:%SZ", gmtime).
#
# Seen, for 1795473488 (2026-11-23T22:38:08Z):
#   POSIX::strftime, gmtime      2026-11-23T22:38:08+0900
#   POSIX::strftime, localtime   2026-11-24T07:38:08+0900
#   POSIX::strftime %s, gmtime   1795441088, which is 32400 less
#   Time::Piece, gmtime          2026-11-23T22:38:08+0000
#   Python's time.strftime       2026-11-23T22:38:08+0000
set -euo pipefail

export TZ=Asia/Seoul
expect() { # WHAT WANTED FOUND
    printf '%-28s %s\n' "$1" "$3"
    [ "$2" = "$3" ] || { echo "changed: $1 was $2" >&2; exit 1; }
}

perl -e 'print "perl $^V\n"'
expect "POSIX::strftime, gmtime" 2026-11-23T22:38:08+0900 \
    "$(perl -MPOSIX=strftime -e 'print strftime("%Y-%m-%dT%H:%M:%S%z", gmtime(1795473488))')"
expect "POSIX::strftime, localtime" 2026-11-24T07:38:08+0900 \
    "$(perl -MPOSIX=strftime -e 'print strftime("%Y-%m-%dT%H:%M:%S%z", localtime(1795473488))')"
expect "POSIX::strftime %s, gmtime" $((1795473488 - 32400)) \
    "$(perl -MPOSIX=strftime -e 'print strftime("%s", gmtime(1795473488))')"
expect "Time::Piece, gmtime" 2026-11-23T22:38:08+0000 \
    "$(perl -MTime::Piece -e 'print gmtime(1795473488)->strftime("%Y-%m-%dT%H:%M:%S%z")')"
if command -v python3 >/dev/null; then
    expect "Python's time.strftime" 2026-11-23T22:38:08+0000 \
        "$(python3 -c 'import time; print(time.strftime("%Y-%m-%dT%H:%M:%S%z", time.gmtime(1795473488)))')"
fi
