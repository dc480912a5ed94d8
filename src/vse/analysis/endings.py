"""The errors that end an analysis early, each with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vse.analysis.ledger import Failure, FileAccount, Ledger
from vse.analysis.result import AnalysisResult, FileResult
from vse.analysis.runs import InputFile
from vse.errors import OutputTooBig, ResultIncomplete, ScriptFailed

SMALLER = (
    "make it smaller (fewer bins, no lists of entries), run over fewer files, or allow more memory "
    "(analysis.max_output_bytes)"
)
"""What to do about an output that is too big."""


def script_failed(name: str, failure: Failure, checkpoint: Path | None = None) -> ScriptFailed:
    """The user's code is to blame; its traceback is a note of the error.

    ``checkpoint``: where it was ``postprocess`` alone, what has all that was processed.
    """
    todo = "correct the script; nothing of the result is kept"
    if checkpoint is not None:
        todo = (
            f"correct postprocess, and that alone, and go on from {checkpoint}: what was processed is in it"
        )
    error = ScriptFailed(f"run {name}", failure.message, todo)
    error.add_note(failure.traceback)
    return error


def spoiled(name: str, failure: Failure, too_big: bool) -> ScriptFailed | OutputTooBig:
    """The outputs cannot be added up or sent, or are ``too_big`` for it."""
    if not too_big:
        return script_failed(name, failure)
    return OutputTooBig(f"merge what {name} gives", failure.message, SMALLER)


def ended_as_too_big(result: AnalysisResult) -> OutputTooBig:
    """The error of a result that became too big: it was kept, and says what is not in it."""
    found = f"{result.too_big}; it has {result.entries_processed:,} entries, and lists those it has not"
    return OutputTooBig(f"merge all that {Path(result.script).name} gives", found, SMALLER)


def incomplete(missing: Mapping[str, str], ledger: Ledger) -> ResultIncomplete:
    """Something is missing, and was not to be; the first of it is named."""
    reasons = [f"{lfn} is missing: {reason}" for lfn, reason in missing.items()]
    reasons += [f"{lfn}: {failure.message}" for lfn, failure in ledger.broken.items()]
    reasons += [
        f"{item.lfn}, entries {item.start} to {item.stop - 1}: {item.failure.message}"
        for item in ledger.failed_ranges()
    ]
    todo = "leave --strict out to get the result without it"
    return ResultIncomplete("give a complete result, as --strict asks", reasons[0], todo)


def no_workers(waited_s: float, paused: int) -> tuple[str, str]:
    """Return what was found and what to do where nobody is left to work."""
    found, todo = f"no worker has been there for {waited_s:.0f} s", "start workers and try again"
    if paused:
        found += f" that could begin anything: {paused} are paused, their memory is nearly full"
        todo = "give them more memory, or make the script need less, and try again"
    return found, todo


def file_result(file: InputFile, account: FileAccount, wall_s: float) -> FileResult:
    """Return what became of one file."""
    return FileResult(
        file.lfn,
        file.url,
        file.source,
        file.size_bytes,
        account.entries,
        account.entries_done,
        account.entries_failed,
        account.read_bytes,
        wall_s,
    )
