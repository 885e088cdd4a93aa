"""A TCP proxy that is slow, loses what is answered, or cuts a reply in the middle, when it is told to."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Self

from infra.process import HOST, free_port


class Proxy:
    """Between clients and one server, in a thread of its own; usable as a context manager.

    Attributes:
        port: where clients connect.
        delay: seconds that each piece of a reply is held back.
        deaf: what the server says gets lost, and nobody is told.
    """

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.delay = 0.0
        self.deaf = False
        self.cuts = 0
        self._cut = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def cut(self, times: int) -> None:
        """Cut the next so many replies in the middle."""
        self._cut = times

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, HOST, self.port))
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(HOST, self._target)
        except OSError:
            writer.close()
            return
        asked = asyncio.ensure_future(self._forward(reader, server_writer))
        answered = asyncio.ensure_future(self._answer(server_reader, writer))
        try:
            await asyncio.wait({asked, answered}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (asked, answered):
                task.cancel()
            for each in (writer, server_writer):
                each.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65_536):
                writer.write(piece)
                await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65_536):
                if self.deaf:
                    continue
                if self.delay:
                    await asyncio.sleep(self.delay)
                if self._cut and len(piece) > 1:
                    self._cut -= 1
                    self.cuts += 1
                    writer.write(piece[: len(piece) // 2])
                    await writer.drain()
                    return
                writer.write(piece)
                await writer.drain()
