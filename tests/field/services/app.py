"""The service for gunicorn (`wsgi`) and uvicorn (`asgi`). Each deletion takes 10 ms, and adds a line to the file DONE if that is set."""
import asyncio
import os
import time

DONE = os.open(os.environ["DONE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT) if "DONE" in os.environ else None
BODY = b'{"deleted":true}'


def done(path):
    if DONE is not None:
        os.write(DONE, path.encode() + b"\n")


def wsgi(environ, start_response):
    time.sleep(0.01)
    done(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))])
    return [BODY]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    await asyncio.sleep(0.01)
    done(scope["path"])
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})
