"""NAME URL switched|default warm|cold: a GET if warm, then a DELETE."""
import asyncio
import sys

name, url, mode, start = sys.argv[1:]
switched, warm = mode == "switched", start == "warm"
SIGNED = {"Authorization": "HMAC-SHA256 one"}


def urllib3_():
    import urllib3

    pool = urllib3.PoolManager(retries=False) if switched else urllib3.PoolManager()
    if warm:
        pool.request("GET", url)
    pool.request("DELETE", url, headers=SIGNED)


def requests_():
    import requests

    with requests.Session() as session:
        if warm:
            session.get(url)
        session.delete(url, headers=SIGNED)


def httpx_():
    import httpx

    with httpx.Client() as client:
        if warm:
            client.get(url)
        client.delete(url, headers=SIGNED)


def aiohttp_():
    import aiohttp

    async def once(request, handler):
        # Called for each sending, also for the one that aiohttp adds by itself.
        if (header := request.headers.get("Authorization")) in sent:
            raise aiohttp.ClientConnectionError("the answer was lost; not sent again")
        if header:
            sent.add(header)
        return await handler(request)

    async def main():
        async with aiohttp.ClientSession(middlewares=[once] if switched else []) as session:
            if warm:
                async with session.get(url) as answer:
                    await answer.read()
            async with session.delete(url, headers=SIGNED) as answer:
                await answer.read()

    sent = set()
    asyncio.run(main())


def pycurl_():
    import pycurl

    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, url)
    curl.setopt(pycurl.WRITEFUNCTION, lambda _: None)
    if warm:
        curl.perform()
    curl.setopt(pycurl.CUSTOMREQUEST, "DELETE")
    if switched:
        curl.setopt(pycurl.FRESH_CONNECT, 1)
    curl.perform()


def geventhttpclient_():
    from urllib.parse import urlsplit

    from geventhttpclient import HTTPClient

    client = HTTPClient.from_url(url)
    path = urlsplit(url).path
    if warm:
        client.get(path).read()
    client.request("DELETE", path, headers=SIGNED).read()


globals()[name.replace("-", "_") + "_"]()
