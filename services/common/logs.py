"""Structured logs: one JSON object a line on stderr, from structlog and from libraries alike."""

import logging
import sys

import structlog

_GRPC_CORE = "grpc._cython.cygrpc"
_LIBRARIES = ("psycopg", "psycopg.pool", "grpc", "asyncio")


def configure(level: str, **bound: str) -> None:
    """Set up logging for the process; `bound` (role, instance) stands in every line."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    handler.addFilter(_is_no_caller_that_left)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for library in _LIBRARIES:
        # What libraries say of every connection is for those who look for it.
        logging.getLogger(library).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    structlog.contextvars.bind_contextvars(**bound)


def _is_no_caller_that_left(record: logging.LogRecord) -> bool:
    # grpc logs a traceback for every caller that hangs up in the middle of a stream, as cancelled restores do.
    return not (record.name == _GRPC_CORE and record.getMessage().startswith("ExecuteBatchError raised in core"))
