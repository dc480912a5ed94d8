"""The helper's side of `vse.catalogue.upstream.helper`; helpers import it by its file, without VSE.

It needs the standard library only, of Python 3.11 and later.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

NO_CLIENT = 3


class Refused(Exception):
    """The catalogue, or its client, says no: ``kind`` is denied, unavailable or garbage."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


def answers_apart() -> Any:
    """Return a stream for answers; what the client prints goes to standard error from here on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def serve(answers: Any, calls: dict[str, Callable[..., Iterable[dict[str, Any]]]]) -> None:
    """Answer questions until there are no more. ``calls`` yield messages; all errors are told."""
    answers.write(json.dumps({"alive": True}) + "\n")
    answers.flush()
    for line in sys.stdin:
        question = json.loads(line)
        count = 0
        try:
            for message in calls[question.pop("call")](**question):
                count += "file" in message
                answers.write(json.dumps(message) + "\n")
                if "alive" in message:
                    answers.flush()
            last: dict[str, Any] = {"end": count}
        except Refused as refused:
            last = {"error": refused.kind, "text": refused.text}
        except SystemExit as end:
            last = {"error": "unavailable", "text": f"the client ended with {end.code}"}
        except Exception as error:
            last = {"error": "garbage", "text": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(last) + "\n")
        answers.flush()
