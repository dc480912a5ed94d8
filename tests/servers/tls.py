"""TLS in front of a server that has none, as a site puts a proxy before it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.certificates import Certificates

_PIECE_BYTES = 65536


@contextmanager
def tls_before(port: int, certificates: Certificates) -> Iterator[int]:
    """Relay what comes by TLS to ``port`` of this machine; gives the port that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory(prefix="vse-tls-") as directory:
        certificates.write(Path(directory))
        context.load_cert_chain(f"{directory}/host.pem", f"{directory}/host.key")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="tls", daemon=True)
    thread.start()

    async def relay(here_in: asyncio.StreamReader, here_out: asyncio.StreamWriter) -> None:
        there_in, there_out = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_carried(here_in, there_out), _carried(there_in, here_out))

    try:
        begun = asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
        server = asyncio.run_coroutine_threadsafe(begun, loop).result(10)
        yield server.sockets[0].getsockname()[1]
        asyncio.run_coroutine_threadsafe(_ended(server), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _carried(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_PIECE_BYTES):
            target.write(data)
            await target.drain()
    target.close()


async def _ended(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
