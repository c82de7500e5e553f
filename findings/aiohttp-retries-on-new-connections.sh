#!/usr/bin/env bash
# aiohttp 3.14.5 resends a DELETE by itself if the server reads it and closes without an answer, even if it was the
# first request of a new connection. aiohttp calls this "retry persistent connection", so one would expect it only
# for connections that were used before. There is no public switch (not TCPConnector(force_close=True) either); a client
# middleware is called for each sending and can refuse the second one. Output:
#
#     aiohttp 3.14.5
#     first request of a session: 2 DELETEs came
#     force_close: 2 DELETEs came
#     a middleware that refuses the second: 1 DELETE came
#
# Fails if that changes. Needs python3 with venv and pip; everything is in a temporary folder and on loopback.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check aiohttp==3.14.5
cat > "$folder/try.py" <<'PYTHON'
import asyncio, sys
import aiohttp

async def times(connector=None, middlewares=()):
    came = []

    async def serve(reader, writer):
        came.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = "http://127.0.0.1:%d/" % server.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession(connector=connector, middlewares=middlewares) as session:
        try:
            await session.delete(url)
        except aiohttp.ClientError:
            pass
    server.close()
    return sum(one.startswith(b"DELETE ") for one in came)

def refuse_the_second():
    sent = []

    async def once(request, handler):
        sent.append(request)
        if len(sent) > 1:
            raise aiohttp.ClientConnectionError("not sent again")
        return await handler(request)

    return [once]

async def main():
    print("aiohttp", aiohttp.__version__)
    return [
        await times(),
        await times(connector=aiohttp.TCPConnector(force_close=True)),
        await times(middlewares=refuse_the_second()),
    ]

said = asyncio.run(main())
for what, count in zip(("first request of a session", "force_close", "a middleware that refuses the second"), said):
    print(f"{what}: {count} DELETE{'s' if count > 1 else ''} came")
sys.exit(said != [2, 2, 1])
PYTHON
"$folder/venv/bin/python" "$folder/try.py"
