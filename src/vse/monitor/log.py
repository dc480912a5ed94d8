"""The log of a service: one JSON object a line on standard error, times in UTC.

Secrets never get here: settings hold them in a type that shows as ``***``, and tokens are read where
they are used.
"""

from __future__ import annotations

import sys

import structlog


def log_to_stderr() -> None:
    """Send every `structlog` event of this process to standard error, exceptions with their traceback."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
