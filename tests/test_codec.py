"""Values to bytes and back: plain data fast, large buffers uncopied, refusals with the way out."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys
import threading
import types
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from piecework import codec
from piecework.errors import CannotPickle, UsageError

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.frozensets(st.integers() | st.text())
    ),
    max_leaves=20,
)


class Locked:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def run(self, x: int) -> int:
        return x


class Evil:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


@given(plain)
def test_plain_data_comes_back_equal(value: object) -> None:
    assert codec.loads(codec.dumps(value)) == value


@given(plain)
def test_plain_data_is_one_ordinary_pickle(value: object) -> None:
    if b"__main__" not in pickle.dumps(value, 5):
        assert codec.dumps(value) == pickle.dumps(value, 5)


def test_text_that_only_looks_like_the_main_module_comes_back() -> None:
    value = ["__main__", {"__main__": "__main__"}, b"\x8c\x08__main__", "x__main__x"]
    assert codec.loads(codec.dumps(value)) == value


@given(st.lists(st.integers(0, 3000), max_size=6), st.integers(0, 2000))
def test_buffers_from_the_threshold_on_stay_out_and_all_come_back(
    sizes: list[int], threshold: int
) -> None:
    value = [np.arange(size, dtype="u1") for size in sizes]
    data, buffers = codec.dumps_buffers(value, threshold=threshold)
    assert [buffer.raw().nbytes for buffer in buffers] == [n for n in sizes if n >= threshold]
    for got, sent in zip(codec.loads(data, buffers), value, strict=True):
        assert np.array_equal(got, sent)


def test_a_large_buffer_is_a_view_and_not_a_copy() -> None:
    value = np.zeros(1_000_000, "u1")
    data, (buffer,) = codec.dumps_buffers(value)
    assert len(data) < 1000
    value[5] = 9
    assert buffer.raw()[5] == 9


def test_buffers_beside_a_lambda_are_left_out_once() -> None:
    value = (lambda x: x + 1, np.zeros(1_000_000, "u1"))
    data, buffers = codec.dumps_buffers(value)
    assert len(data) < 5000
    assert len(buffers) == 1
    function, again = codec.loads(data, buffers)
    assert function(1) == 2
    assert again.nbytes == 1_000_000


def test_a_buffer_that_is_not_contiguous_is_sent_all_the_same() -> None:
    value = np.arange(1_000_000).reshape(1000, 1000)[:, ::2]
    data, buffers = codec.dumps_buffers(value, threshold=0)
    assert np.array_equal(codec.loads(data, buffers), value)


def test_functions_of_a_module_go_by_name() -> None:
    assert codec.loads(codec.dumps(functools.reduce)) is functools.reduce
    assert codec.loads(codec.dumps(threading.Thread)) is threading.Thread
    assert len(codec.dumps(codec.dumps)) < 60


# ---------------------------------------------------------------- lambdas and closures


def test_functions_without_a_name_go_by_value() -> None:
    def scaled(by: int, *, plus: int = 1) -> Callable[..., int]:
        def inner(x: int, y: int = 10, *, z: int = 100) -> int:
            """says what"""
            return x * by + plus + y + z

        inner.mark = "kept"  # type: ignore[attr-defined]
        return inner

    again = codec.loads(codec.dumps(scaled(3, plus=2)))
    assert again(5) == 127
    assert (again.__doc__, again.mark, again.__name__) == ("says what", "kept", "inner")
    assert codec.loads(codec.dumps(functools.partial(lambda x, y: x - y, 5)))(2) == 3


def test_a_closure_may_refer_to_itself() -> None:
    def factorial(n: int) -> int:
        return 1 if n == 0 else n * factorial(n - 1)

    def even(n: int) -> bool:
        return n == 0 or odd(n - 1)

    def odd(n: int) -> bool:
        return n != 0 and even(n - 1)

    assert codec.loads(codec.dumps(factorial))(10) == 3628800
    assert codec.loads(codec.dumps(even))(10) is True


def test_closures_that_share_a_variable_go_on_sharing_it() -> None:
    def counter() -> tuple[Callable[[], None], Callable[[], int]]:
        count = 0

        def add() -> None:
            nonlocal count
            count += 1

        return add, lambda: count

    add, read = codec.loads(codec.dumps(counter()))
    add()
    add()
    assert read() == 2


def test_a_variable_that_has_no_value_yet_has_none_at_the_other_end() -> None:
    def early() -> Callable[[], int]:
        def read() -> int:
            return later

        if early is None:
            later = 1
        return read

    with pytest.raises(NameError):
        codec.loads(codec.dumps(early()))()


SETTING = "of the module"


def set_to(value: str) -> None:
    global SETTING
    SETTING = value


def test_a_lambda_of_a_module_uses_that_module_and_not_a_copy_of_its_globals() -> None:
    read = codec.loads(codec.dumps(lambda: SETTING))
    try:
        set_to("changed since")
        assert read() == "changed since"
    finally:
        set_to("of the module")


def test_a_lambda_that_needs_nothing_of_its_module_does_not_import_it() -> None:
    data = codec.dumps(lambda path: [sys.intern(each) for each in sorted(path)])
    told = run_elsewhere(f"codec.loads({data!r})(['b', 'a'])", f"{__name__!r} in sys.modules")
    assert told == "['a', 'b'] False"


def test_a_function_of_a_namespace_that_is_no_module_takes_along_what_it_uses() -> None:
    space: dict[str, Any] = {"__name__": "made_up"}
    exec("factor = 3\ndef f(x): return g(x) * factor\ndef g(x): return x + 1", space)
    assert run_elsewhere(f"codec.loads({codec.dumps(space['f'])!r})(1)") == "6"


def test_a_submodule_that_is_used_through_its_package_is_imported_there() -> None:
    import concurrent.futures
    import xml.dom.minidom

    data = codec.dumps(lambda: xml.dom.minidom.parseString("<a/>").documentElement.tagName)
    assert run_elsewhere(f"codec.loads({data!r})()") == "a"
    assert concurrent.futures


def test_a_class_made_in_a_function_keeps_its_identity_on_the_way_back() -> None:
    class Local:
        seen = 0

        def name(self) -> str:
            return type(self).__name__ + __class__.__name__  # type: ignore[name-defined]

    again = codec.loads(codec.dumps(Local()))
    assert type(again) is Local
    Local.seen = 5
    late = codec.dumps(Local())
    Local.seen = 6
    codec.loads(late)
    assert Local.seen == 6, "what comes home does not undo what happened here meanwhile"


def test_code_of_another_python_version_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from piecework import arrival

    data = codec.dumps(lambda: 1)
    monkeypatch.setattr(arrival, "VERSION", (3, 99))
    with pytest.raises(UsageError, match=r"cannot run on 3\.99.*module that both import"):
        codec.loads(data)


def run_elsewhere(*expressions: str) -> str:
    """What the expressions give in a fresh interpreter, with a space between."""
    prints = ", ".join(expressions)
    program = f"import sys; from piecework import codec; print({prints})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---------------------------------------------------------------- what it costs


def test_importing_it_brings_no_cloudpickle() -> None:
    heavy = "{'cloudpickle', 'asyncio', 'rich', 'click', 'multiprocessing', 'uuid', 'random'}"
    loaded = run_elsewhere(f"sorted({heavy} & set(sys.modules))")
    assert loaded == "[]"


def test_plain_functions_go_by_value_without_cloudpickle() -> None:
    told = run_elsewhere(
        "codec.loads(codec.dumps(lambda x: x + 1))(1)", "'cloudpickle' in sys.modules"
    )
    assert told == "2 False"


# ---------------------------------------------------------------- what cannot be sent


@pytest.mark.parametrize(
    ("value", "path", "way_out"),
    [
        (threading.Lock(), r"fn: _thread\.lock\.", "where the tasks run"),
        ([1, {"a": Locked()}], r"fn\[1\]\['a'\]\.lock: _thread\.lock", "where the tasks run"),
        (Locked().run, r"fn\.__self__\.lock: _thread\.lock", "where the tasks run"),
        ((i for i in range(3)), "fn: generator", "Pass a list of its items"),
        (Evil(ValueError("broken")), r"fn: .*Evil \(ValueError: broken\)", "inside the task"),
        (Evil(SystemExit(3)), r"fn: .*Evil \(SystemExit: 3\)", "inside the task"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_path_and_with_the_way_out(
    value: object, path: str, way_out: str
) -> None:
    with pytest.raises(CannotPickle, match=path) as caught:
        codec.dumps(value, what="fn")
    assert way_out in str(caught.value)
    with pytest.raises(CannotPickle, match=path):
        codec.dumps_buffers(value, what="fn")


def test_ctrl_c_while_pickling_is_not_turned_into_a_refusal() -> None:
    with pytest.raises(KeyboardInterrupt):
        codec.dumps(Evil(KeyboardInterrupt()))


def test_a_value_nested_too_deeply_is_refused_with_the_way_out() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(CannotPickle, match=r"value: it is nested too deeply.*flat form"):
        codec.dumps(value)
    while value:  # or freeing it would overflow the stack of older interpreters
        value = value[0]


def test_an_open_file_is_refused_and_not_copied() -> None:
    with open(__file__) as file:
        show = functools.partial(print, file=file)
        with pytest.raises(CannotPickle, match=r"fn\.keywords\['file'\].*pass its path"):
            codec.dumps(show, what="fn")


def test_the_standard_streams_are_those_of_the_other_process() -> None:
    assert codec.loads(codec.dumps((lambda: None, sys.stdout)))[1] is sys.stdout


def test_other_unpicklables_do_not_hide_the_first() -> None:
    module = types.ModuleType("not_importable")
    module.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(CannotPickle, match="value"):
        codec.dumps(module)


def test_arrays_and_their_like_travel() -> None:
    for value in (array("d", [1, 2]), bytearray(b"xyz"), range(3), slice(1, 2), ..., type(None)):
        assert codec.loads(codec.dumps([value, lambda: 1]))[0] == value
