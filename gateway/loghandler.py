"""The standard library's logging, sent to the gateway's log."""

from __future__ import annotations

import logging
from typing import Any

from gateway.logs import LogWriter


class JsonHandler(logging.Handler):
    """Sends the standard library's log records the same way, so that there is one log."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage()
        except (TypeError, ValueError):  # its arguments do not fit its text: that is still the best there is to say
            event = str(record.msg)
        fields: dict[str, Any] = {
            "time": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": event,
        }
        fields.update(getattr(record, "fields", None) or {})
        if record.exc_info:
            fields["traceback"] = logging.Formatter().formatException(record.exc_info)
        self._writer.write(fields)
