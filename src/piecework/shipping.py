"""Sends by value what has no importable name: the cloudpickle part of `codec`."""

from __future__ import annotations

import io
from typing import Any

import cloudpickle

from piecework.errors import CannotPickle


def dumps(obj: Any, buffer_callback: Any, what: str, error: Exception | None) -> bytes:
    try:
        with io.BytesIO() as file:
            cloudpickle.Pickler(file, protocol=5, buffer_callback=buffer_callback).dump(obj)
            return file.getvalue()
    except Exception as failed:
        raise CannotPickle(f"{what} cannot be sent to another process: {failed}") from failed
