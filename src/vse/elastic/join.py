"""``python -m vse.elastic.join PACK``: what a batch job runs.

It fetches environment and credentials and becomes a worker. PACK is a file, or ``-``: then it is the first
line of the input, the job's name the second, and the end of the input is the end of the job.
Nothing but the file's name is ever an argument.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from vse.elastic import credentials, environment
from vse.elastic.pack import Pack

ANSWER_S = 2 * environment.PAYLOAD_S
"""The payload of the environment may be run first."""


def main(argument: str) -> None:
    """Become the worker, in the environment of the facility."""
    os.umask(0o077)
    attached = argument == "-"
    if attached:
        # by the byte: what follows belongs to the worker
        text, job = _line(), _line().decode()
    else:
        text, job = Path(argument).read_bytes(), _job_of_batch()
    pack = Pack.from_json(text)
    shipped = asyncio.run(fetch(pack))
    directory = Path(tempfile.mkdtemp(prefix="vaf-", dir=os.environ.get("TMPDIR")))
    os.environ.update(credentials.write(shipped["credentials"], directory))
    descriptor = environment.in_memory(pack.to_json().encode())
    command = [
        sys.executable,
        "-m",
        "vse.elastic.worker",
        str(descriptor),
        str(directory),
        job or directory.name,
        "attached" if attached else "detached",
    ]
    argv = environment.enter(shipped["environment"], command, keeps_input=False)
    os.execv(argv[0], argv)  # noqa: S606 - an argument list


async def fetch(pack: Pack) -> dict[str, Any]:
    """Ask the scheduler, inside its TLS, for ``{environment: str, credentials: {variable: bytes}, renew_s}``.

    ``renew_s``: when to ask again, as the credentials may be renewed until then.
    """
    from distributed.core import rpc

    async with rpc(pack.address, connection_args=pack.security().get_connection_args("worker")) as scheduler:
        answer = await asyncio.wait_for(scheduler.vaf_ship(), ANSWER_S)
    return dict(answer)


def _line() -> bytes:
    line = bytearray()
    while (byte := os.read(0, 1)) not in (b"\n", b""):
        line += byte
    return bytes(line)


def _job_of_batch() -> str:
    """The job's id, as the batch system lists it."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("VAF_JOB", "")


if __name__ == "__main__":
    main(sys.argv[1])
