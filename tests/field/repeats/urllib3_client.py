"""urllib3 with its defaults: Retry.DEFAULT. Reads "target<TAB>header" lines, prints "status request-id-of-the-first"."""
import sys

import urllib3

base, pool = sys.argv[1], urllib3.PoolManager()
for line in sys.stdin:
    target, header = line.rstrip("\n").split("\t")
    try:
        answer = pool.request("DELETE", base + target, headers={"Authorization": header})
        print(answer.status, answer.headers.get("x-saltgate-repeat-of", "-"))
    except urllib3.exceptions.HTTPError as error:
        print(0, type(error).__name__)
