"""A TCP relay that adds the delay of a network: bytes and closes arrive at the other end 5 ms later."""
import asyncio
import threading

ONE_WAY = 0.005


class Relay:
    """Each has its own thread, until the script ends."""

    def __init__(self, port, to):
        self.to, self.tasks, up = to, set(), threading.Event()

        async def run():
            server = await asyncio.start_server(self.serve, "127.0.0.1", port, backlog=256)
            up.set()
            await server.serve_forever()

        threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
        assert up.wait(30), "the relay does not start"

    async def serve(self, reader, writer):
        away = await asyncio.open_connection("127.0.0.1", self.to)
        await asyncio.gather(self.pass_on(reader, away[1]), self.pass_on(away[0], writer))

    async def pass_on(self, reader, writer):
        """In order, because every part waits equally long."""
        loop = asyncio.get_running_loop()
        try:
            while part := await reader.read(65536):
                loop.call_later(ONE_WAY, writer.write, part)
        except OSError:
            pass
        loop.call_later(ONE_WAY, writer.close)
