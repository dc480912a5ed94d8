"""The errors that end an analysis early, each with what to do."""

from __future__ import annotations

from collections.abc import Mapping

from vse.analysis.ledger import Failure, Ledger
from vse.errors import OutputTooBig, ResultIncomplete, ScriptFailed


def script_failed(name: str, failure: Failure) -> ScriptFailed:
    """The user's code is to blame; its traceback is a note of the error."""
    error = ScriptFailed(f"run {name}", failure.message, "correct the script; nothing of the result is kept")
    error.add_note(failure.traceback)
    return error


def spoiled(name: str, failure: Failure, too_big: bool) -> ScriptFailed | OutputTooBig:
    """The outputs cannot be added up or sent, or are ``too_big`` for it."""
    if not too_big:
        return script_failed(name, failure)
    todo = "make it smaller (fewer bins, no lists of entries), run over fewer files, or allow more memory"
    return OutputTooBig(f"merge what {name} gives", failure.message, todo)


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
