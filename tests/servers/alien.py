"""A double of ALICE's central services: a websocket that answers three commands in JAliEn's JSON.

There is no JAliEn to install. This speaks its protocol as far as VSE needs it, by its sources (the commands
find, stat and whereis): ``{"command": ..., "options": [...]}`` in, ``{"metadata": ..., "results": ...}`` out,
over TLS with a client's certificate. `alienpy` itself is the client. Runs in alienpy's environment::

    python alien.py CATALOGUE.json CERTIFICATES PORT_FILE

CATALOGUE.json is read at every command: ``{"files": {lfn: ...}, "whereis": {lfn: [[se, pfn]]}, "mood": ""}``.
A mood is what goes wrong: garbage, half, silent, denied, refused, broken.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
from pathlib import Path

_ENOENT, _EACCES, _ENOTDIR, _EREMOTEIO = 2, 13, 20, 121


def answer(catalogue, command, options):
    """Return (exit code, error text, results), as JAliEn does."""
    files = catalogue["files"]
    words = [word for word in options if word not in ("-nomsg", "-nokeys", "-a", "-f", "-r")]
    if command == "commandlist":
        return 0, "", [{"commandlist": name} for name in ("find", "stat", "whereis")]
    if catalogue["mood"] == "denied":
        return _EACCES, "You are not allowed", []
    if command == "stat":
        found = [{"type": "f", **files[name]} for name in words if name in files]
        missing = [name for name in words if name not in files]
        above = [name for name in missing if any(lfn.startswith(name + "/") for lfn in files)]
        found += [{"type": "d", "lfn": name + "/"} for name in above]
        missing = [name for name in missing if name not in above]
        return (_ENOENT, missing[-1], found) if missing else (0, "", found)
    if command == "whereis":
        if words[0] not in files:
            return _ENOENT, words[0], []
        copies = [{"seName": se, "pfn": pfn} for se, pfn in catalogue["whereis"].get(words[0], ())]
        return 0, "", [*copies, {}]
    if command == "find":
        limit, offset = int(words[words.index("-l") + 1]), int(words[words.index("-o") + 1])
        base, pattern = words[-2:]
        below = sorted(lfn for lfn in files if lfn.startswith(base.rstrip("/") + "/"))
        if not below:
            return _ENOTDIR, base, []
        # Its '*' passes over slashes; only the end of the name counts.
        matches = re.compile(".*".join(map(re.escape, pattern.split("*"))) + "$").match
        found = [lfn for lfn in below if matches(lfn[len(base.rstrip("/")) + 1 :])]
        return 0, "", [{"type": "f", **files[lfn]} for lfn in found[offset : offset + limit]]
    return _EREMOTEIO, f"no command {command}", []


async def serve(catalogue_file, certificates, port_file):
    from websockets.asyncio.server import serve as listening

    async def talk(connection):
        async for text in connection:
            catalogue = json.loads(catalogue_file.read_text())
            question = json.loads(text)
            code, error, results = answer(catalogue, question["command"], question["options"])
            metadata = {"exitcode": str(code), "error": error, "user": "tester", "currentdir": "/"}
            whole = json.dumps({"metadata": metadata, "results": results})
            mood = catalogue["mood"] if question["command"] != "commandlist" else ""
            if mood == "silent":
                await asyncio.sleep(3600)
            if mood == "broken":
                await connection.close(1011)
                return
            await connection.send({"garbage": "<html>", "half": whole[:-20]}.get(mood, whole))

    def allowed(connection, request):
        refuse = json.loads(catalogue_file.read_text())["mood"] == "refused"
        return connection.respond(401, "not registered") if refuse else None

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "host.pem", certificates / "host.key")
    context.load_verify_locations(certificates / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    async with listening(talk, "127.0.0.1", 0, ssl=context, process_request=allowed, max_size=None) as server:
        port_file.with_suffix(".new").write_text(str(server.sockets[0].getsockname()[1]))
        port_file.with_suffix(".new").rename(port_file)
        await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(serve(*map(Path, sys.argv[1:])))
