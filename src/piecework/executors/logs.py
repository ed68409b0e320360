"""`logging` in a worker process: records go to the master's loggers of the same names.

    logger.info ──▶ a handler of the user's in the worker takes it? that is all
                └─▶ else: its fields, rendered ──▶ Printer ──▶ master: the logger of that name

Loggers have the levels that they had in the master when the worker started, so what nobody would
see is not sent. `logging` is not imported here: that takes longer than a worker takes to start.
Whoever imports it finds it prepared.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import marshal
import sys

from piecework.executors.printing import LOG

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from piecework.executors.printing import Printer

    Levels = dict[str | None, int]
    """By name of the logger; None is what `logging.disable` was called with."""

MESSAGE_MAX = 1 << 20  # characters


def levels() -> Levels:
    """Of the loggers of this process, which is the master."""
    logging = sys.modules.get("logging")
    if logging is None or not hasattr(logging, "root"):
        return {}
    manager = logging.root.manager
    found: Levels = {"root": logging.root.level, None: manager.disable}
    for name, logger in list(manager.loggerDict.items()):
        if getattr(logger, "level", 0):  # some are only places in the tree
            found[name] = logger.level
    return found


def prepare(printer: Printer, known: Levels, *, forked: bool) -> None:
    """Have records sent from the moment that anybody imports `logging`."""
    logging = sys.modules.get("logging")
    if logging is None:
        sys.meta_path.insert(0, _AtImport(lambda module: _hook(module, printer, known)))
        return
    if forked:  # the handlers are the master's: it calls them
        for logger in (logging.root, *logging.root.manager.loggerDict.values()):
            if getattr(logger, "handlers", None):
                logger.handlers = []
    _hook(logging, printer, known)


class _AtImport:
    """A finder that waits for the import of `logging`, and is gone with it."""

    def __init__(self, then: Callable[[ModuleType], None]) -> None:
        self._then = then

    def find_spec(self, name, path=None, target=None):
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                self._wrap(spec.loader)
                return spec
        return None

    def _wrap(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module):
            execute(module)
            self._then(module)

        loader.exec_module = exec_module


def _hook(logging: Any, printer: Printer, known: Levels) -> None:
    for name, level in known.items():
        if name is None:
            logging.root.manager.disable = level
        else:
            logging.getLogger(name).setLevel(level)
    take = logging.Logger.callHandlers

    def callHandlers(self, record):
        if _taken(self, logging.NullHandler):
            take(self, record)
        else:
            printer.put(LOG, packed(record))

    logging.Logger.callHandlers = callHandlers


def _taken(logger: Any, null: type) -> bool:
    """Whether a handler in this process takes the record: then the user has configured it here."""
    while logger is not None:
        for handler in logger.handlers:
            if not isinstance(handler, null):
                return True
        logger = logger.parent if logger.propagate else None
    return False


def packed(record: logging.LogRecord) -> bytes:
    """All fields of a record, as what needs none of the user's classes to be read."""
    fields = dict(record.__dict__)
    fields["msg"] = _message(record)
    fields["args"] = None
    if record.exc_info and not record.exc_text:
        from traceback import format_exception

        fields["exc_text"] = "".join(format_exception(*record.exc_info)).rstrip("\n")
    fields["exc_info"] = None
    try:
        return marshal.dumps(fields)
    except ValueError:
        return marshal.dumps({name: _plain(value) for name, value in fields.items()})


def _message(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
    except Exception as error:
        message = f"{record.msg} [its arguments do not fit: {error}]"
    if len(message) > MESSAGE_MAX:
        return f"{message[:MESSAGE_MAX]} [... {len(message) - MESSAGE_MAX} characters cut]"
    return message


def _plain(value: Any) -> Any:
    try:
        marshal.dumps(value)
    except ValueError:
        return repr(value)
    return value
