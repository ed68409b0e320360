"""Values to bytes and back, between processes that trust each other.

    dumps ──▶ C pickle ──▶ mentions __main__, or fails? ──▶ shipping (by value)
                                                      fails? ──▶ CannotPickle (diagnosis)

Plain data costs one call of C pickle and one scan of the bytes. What has no importable name
(lambdas, closures, everything of `__main__`) goes by value through `shipping`, which is
imported only then. Every worker process imports this file: it stays light.
"""

from __future__ import annotations

from piecework.lean import pickle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

What = str | tuple[str, ...]
PROTOCOL = 5
# How a pickle of protocol 5 names a module: the opcode of a short string, its length, the name.
# (`__mp_main__` is what the main module is called in a child of multiprocessing.)
_MAIN = b"\x8c\x08__main__"
_MP_MAIN = b"\x8c\x0b__mp_main__"
# C pickle copies the number of a connection's descriptor, which means nothing in another process.
_CONNECTION = b"\x8c\x1amultiprocessing.connection"


def dumps(obj: Any, *, by_value_main: bool = True, what: What = "value") -> bytes:
    """The bytes that `loads` makes `obj` from in another process, or CannotPickle.

    `by_value_main` sends functions and classes of `__main__` with their code: needed towards
    a worker, which never runs the main module. Without it they go by name, as results may:
    who gets them has the main module they came from. `what` names `obj` in the error, or each
    part of it where `obj` is a tuple: `what=("fn", "args", "kwargs")`.
    """
    try:
        data = pickle.dumps(obj, PROTOCOL)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a __reduce__ may raise anything
        return _ship(obj, what)
    return _ship(obj, what) if _needs_care(data, by_value_main) else data


def dumps_buffers(
    obj: Any, *, threshold: int = 262144, by_value_main: bool = True, what: What = "value"
) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """As `dumps`, with buffers of at least `threshold` bytes left out, to be sent uncopied.

    The buffers are views: `obj` must stay unchanged until they are sent.
    """
    buffers: list[pickle.PickleBuffer] = []

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        with memoryview(buffer) as view:
            if view.nbytes < threshold or not view.contiguous:
                return True
        buffers.append(buffer)
        return False

    def again() -> Callable[[pickle.PickleBuffer], bool]:
        buffers.clear()
        return in_band

    try:
        data = pickle.dumps(obj, PROTOCOL, buffer_callback=in_band)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return _ship(obj, what, again), buffers
    if _needs_care(data, by_value_main):
        data = _ship(obj, what, again)
    return data, buffers


def _needs_care(data: bytes, by_value_main: bool) -> bool:
    """Whether C pickle named something that its name does not bring to the other side."""
    if by_value_main and (_MAIN in data or _MP_MAIN in data):
        return True
    return _CONNECTION in data


def loads(data: Any, buffers: Iterable[Any] = ()) -> Any:
    """The value; `buffers` are those that `dumps_buffers` left out, in the same order."""
    return pickle.loads(data, buffers=buffers)


def _ship(obj: Any, what: What, buffer_callback: Callable[[], Any] | None = None) -> bytes:
    from piecework import shipping

    try:
        return shipping.pickled(obj, buffer_callback or shipping.all_in_band)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        from piecework.diagnosis import explain
        from piecework.errors import CannotPickle

        raise CannotPickle(explain(obj, what, error)) from error
