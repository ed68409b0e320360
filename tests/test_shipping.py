"""What comes from `__main__` goes by value and lives in one `__main__` at the other end.

Every test is a script, run as `__main__`, whose `there(fn, *args)` calls `fn` in one worker
process that started from a fresh interpreter and never saw the script.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

WORKER = """
import pickle, sys
from piecework import codec, mainspace
mainspace.adopt(fresh=True)
while True:
    try:
        fn, args = codec.loads(pickle.load(sys.stdin.buffer))
    except EOFError:
        break
    result = codec.dumps(fn(*args), by_value_main=False)
    pickle.dump((result, 'cloudpickle' in sys.modules), sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""

PROLOGUE = f"""
import pickle as _pickle, subprocess as _subprocess, sys as _sys
from piecework import codec as _codec
_worker = _subprocess.Popen([_sys.executable, "-c", {WORKER!r}], stdin=-1, stdout=-1)
_heavy = False

def there(fn, *args):
    global _heavy
    _pickle.dump(_codec.dumps((fn, args)), _worker.stdin)
    _worker.stdin.flush()
    result, _heavy = _pickle.load(_worker.stdout)
    return _codec.loads(result)
"""

EPILOGUE = """
with _worker:
    _worker.stdin.close()
print("all asserted")
"""

Script = Callable[[str], None]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    def run(body: str) -> None:
        path = tmp_path / "script.py"
        path.write_text(PROLOGUE + dedent(body) + EPILOGUE)
        done = subprocess.run(
            [sys.executable, "-W", "error", str(path)], capture_output=True, text=True, timeout=60
        )
        assert done.stdout == "all asserted\n", done.stderr

    return run


def test_functions_of_main_call_each_other_and_cloudpickle_is_not_needed(script: Script) -> None:
    script("""
    import functools
    def even(n): return n == 0 or odd(n - 1)
    def odd(n): return n != 0 and even(n - 1)
    @functools.lru_cache
    def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
    assert there(even, 10) is True
    assert there(fib, 80) == 23416728348467685
    assert there(lambda: fib.cache_info().currsize) == 81
    assert not _heavy
    """)


def test_what_an_initializer_sets_is_kept(script: Script) -> None:
    script("""
    conn = None
    def initializer():
        global conn, made_there
        conn = made_there = "opened"
    def task(): return conn, made_there
    there(initializer)
    assert there(task) == ("opened", "opened")
    assert there(task) == ("opened", "opened")
    assert conn is None and "made_there" not in globals()
    """)


def test_what_an_initializer_or_a_task_puts_into_a_global_container_is_kept(
    script: Script,
) -> None:
    script("""
    class Service:
        def __init__(self): self.opened = []
    state, cache, service = {}, [], Service()
    class Config:
        values = {}
    def initializer():
        state["conn"] = "opened"
        service.opened.append("it")
        Config.values["a"] = 1
    def task(x):
        cache.append(x)
        return state["conn"], cache, service.opened, Config.values
    there(initializer)
    assert there(task, 1) == ("opened", [1], ["it"], {"a": 1})
    assert there(task, 2) == ("opened", [1, 2], ["it"], {"a": 1})
    assert (state, cache) == ({}, [])
    """)


def test_a_container_that_was_filled_here_since_arrives_as_it_is_now(script: Script) -> None:
    script("""
    limits = {"a": 1}
    handlers = {"old": lambda: "old"}  # its content cannot be compared, so its address is
    def task(): return limits, [handler() for handler in handlers.values()]
    assert there(task) == ({"a": 1}, ["old"])
    limits["b"] = 2
    handlers = {"new": lambda: "new"}
    assert there(task) == ({"a": 1, "b": 2}, ["new"])
    """)


def test_a_helper_and_a_value_that_are_defined_again_arrive(script: Script) -> None:
    script("""
    LIMIT = 1
    def helper(): return "old"
    def task(): return helper(), LIMIT
    assert there(task) == ("old", 1)
    def helper(): return "new"
    LIMIT = 2
    assert there(task) == ("new", 2)
    """)


def test_what_is_made_again_under_the_same_name_arrives_however_alike(script: Script) -> None:
    script("""
    import functools
    def define(n):
        global P, DEFAULT, cached
        class P:
            __qualname__ = "P"
            version = n
        DEFAULT = P()
        cached = functools.lru_cache(eval(f"lambda: {n}"))
        cached.__qualname__ = "cached"
    def task(): return DEFAULT.version, isinstance(DEFAULT, P), cached()
    for n in range(20):
        define(-1)  # so that addresses are used again
        define(n)
        assert there(task) == (n, True, n)
    """)


def test_a_value_that_a_task_has_changed_is_no_longer_replaced(script: Script) -> None:
    script("""
    count = 0
    def add():
        global count
        count += 1
        return count
    assert [there(add), there(add), there(add)] == [1, 2, 3]
    count = 100
    assert there(add) == 4
    """)


def test_the_script_is_still_the_main_file_there(script: Script) -> None:
    script("""
    import os
    def where(): return os.path.basename(__file__), __name__
    assert there(where) == ("script.py", "__main__")
    """)


def test_names_of_the_worker_program_do_not_leak_into_main(script: Script) -> None:
    script("""
    def names(): return sorted(name for name in globals() if not name.startswith("__"))
    assert there(names) == ["names"], there(names)
    """)


def test_results_of_classes_of_main_are_of_those_classes(script: Script) -> None:
    script("""
    import enum, functools
    from dataclasses import dataclass, field
    from typing import NamedTuple

    class Color(enum.Enum):
        RED = 1
        BLUE = 2
        def other(self): return Color.BLUE if self is Color.RED else Color.RED

    class Base:
        registry = []
        def __init_subclass__(cls): Base.registry.append(cls.__name__)

    @dataclass
    class Point(Base):
        x: int
        color: Color = Color.RED
        marks: list = field(default_factory=list)
        def up(self): return Point(self.x + 1, self.color.other())
        @functools.cached_property
        def double(self): return 2 * self.x
        @property
        def half(self): return self.x / 2
        @classmethod
        def zero(cls): return cls(0)
        @staticmethod
        def name(): return "point"

    @dataclass(frozen=True, slots=True)
    class Slotted:
        x: int

    class Pair(NamedTuple):
        a: int
        b: Point

    class Child(Point):
        def up(self): return super().up()

    def task(point):
        assert isinstance(point, Point) and point.color is Color.RED
        return point.up(), point.double, point.half, Point.zero(), Point.name()

    for _ in range(3):
        up, double, half, zero, name = there(task, Point(3))
        assert type(up) is Point and up == Point(4, Color.BLUE) and up.color is Color.BLUE
        assert (double, half, zero, name) == (6, 1.5, Point(0), "point")
        assert there(lambda s: Slotted(s.x + 1), Slotted(3)) == Slotted(4)
        pair = there(lambda p: p._replace(a=9), Pair(1, Point(2)))
        assert type(pair) is Pair and pair == Pair(9, Point(2))
        assert type(there(Child.up, Child(1))) is Point
        assert there(Point(5).up) == Point(6, Color.BLUE)
    assert Base.registry == ["Point", "Child"], Base.registry
    """)


def test_a_class_that_only_the_payload_knows_comes_back_as_itself(script: Script) -> None:
    script("""
    import copy
    class P:
        def __init__(self): self.x = 1
        def __eq__(self, other): return type(self) is type(other)
        __hash__ = None
    assert there(copy.copy, P()) == P()
    assert there(copy.deepcopy, [P(), P()]) == [P(), P()]
    def local():
        class Inner(P): pass
        return Inner
    Inner = local()
    renamed = there(copy.copy, Inner())
    assert type(renamed) is Inner
    """)


def test_what_the_worker_did_to_a_class_stays_and_what_changed_here_arrives(
    script: Script,
) -> None:
    script("""
    class Config:
        debug = False
        limit = 1
    def initializer(): Config.debug = True
    def read(): return Config.debug, Config.limit
    there(initializer)
    assert there(read) == (True, 1)
    Config.limit = 2
    assert there(read) == (True, 2)
    assert Config.debug is False
    assert type(there(lambda: Config())) is Config and Config.debug is False
    """)


def test_a_class_that_is_defined_again_is_another_class(script: Script) -> None:
    script("""
    class P:
        version = 1
    def version(p): return p.version, isinstance(p, P), type(p).__name__
    assert there(version, P()) == (1, True, "P")
    class P:
        version = 2
    assert there(version, P()) == (2, True, "P")
    """)


def test_generics_type_variables_and_abstract_classes_work(script: Script) -> None:
    script("""
    import abc
    from typing import Generic, NewType, TypeVar
    T = TypeVar("T")
    class Box(Generic[T]):
        def __init__(self, item: T): self.item = item
        def get(self) -> T: return self.item
    class Shape(abc.ABC):
        @abc.abstractmethod
        def area(self): ...
    class Square(Shape):
        def area(self): return 4
    def work(box, shape):
        try:
            Shape()
        except TypeError:
            return box.get(), shape.area(), isinstance(shape, Shape), T.__name__
    assert there(work, Box(3), Square()) == (3, 4, True, "T")
    """)


def test_what_scripts_are_made_of_works_there(script: Script) -> None:
    script("""
    import collections, contextlib, enum, functools, logging, pickle, re, typing, weakref

    @functools.singledispatch
    def kind(x): return "any"
    @kind.register
    def _(x: int): return "int"
    assert there(lambda: (kind(1), kind("a"))) == ("int", "any")

    @contextlib.contextmanager
    def five(): yield 5
    def enter():
        with five() as found: return found
    assert there(enter) == 5

    def plus_one(f):
        @functools.wraps(f)
        def wrapped(*args): return f(*args) + 1
        return wrapped
    @plus_one
    def decorated(x): return x
    assert there(decorated, 1) == 2

    class Outer:
        class Inner:
            y = 3
    assert type(there(lambda: Outer.Inner())) is Outer.Inner

    class Flags(enum.Flag):
        A = 1
        B = 2
    assert there(lambda: Flags.A | Flags.B) == Flags(3)

    class Meta(type):
        def __call__(cls, *args):
            made = super().__call__(*args)
            made.tag = "meta"
            return made
    class WithMeta(metaclass=Meta): pass
    assert there(lambda: WithMeta().tag) == "meta"

    class Node: pass
    Node.root, Node.kinds = Node(), [Node]
    assert there(lambda: isinstance(Node.root, Node) and Node.kinds[0] is Node)

    class A:
        def other(self): return B()
    class B:
        def other(self): return A()
    assert there(lambda: type(A().other().other()) is A)

    UserId = typing.NewType("UserId", int)
    P = typing.ParamSpec("P")
    log, digits = logging.getLogger("x"), re.compile("[0-9]+")
    live = weakref.WeakValueDictionary()
    default = collections.defaultdict(lambda: 7)
    def named(): return UserId(3), P.__name__, log.name
    def held(): return digits.match("12").group(), len(live), default["k"]
    assert there(named) == (3, "P", "x")
    assert there(held) == ("12", 0, 7)

    Row = collections.namedtuple("Row", "a b")
    def again(): return pickle.loads(pickle.dumps(Row(1, 2))), __import__("__main__").Row is Row
    row, same = there(again)
    assert type(row) is Row and same

    async def coroutine(x): return x
    def run():
        try: coroutine(4).send(None)
        except StopIteration as stop: return stop.value
    assert there(run) == 4

    class Doubles:
        def __call__(self, x): return 2 * x
    assert there(Doubles(), 4) == 8
    """)


def test_exceptions_of_main_keep_their_type(script: Script) -> None:
    script("""
    from piecework.failures import failure_from, rebuild
    class Oops(Exception):
        def __init__(self, a, b):
            super().__init__(f"{a} {b}")
            self.a = a
    def task():
        try:
            raise Oops(1, 2)
        except Oops as error:
            return failure_from(error)
    failure = there(task)
    raised = task.__code__.co_firstlineno + 2
    assert failure.type == "__main__.Oops"
    assert failure.where == f"{__file__}:{raised} in task", failure.where
    error = rebuild(failure)
    assert type(error) is Oops and error.a == 1 and str(error) == "1 2"
    """)


def test_functions_come_back_as_results(script: Script) -> None:
    script("""
    OFFSET = 10
    def adder(n): return lambda x: x + n + OFFSET
    add = there(adder, 5)
    OFFSET = 20
    assert add(1) == 26  # the master's own global, which no result may change
    """)


def test_many_threads_may_send_and_receive_at_once(script: Script) -> None:
    script("""
    from concurrent.futures import ThreadPoolExecutor
    class P:
        def __init__(self, x): self.x = x
        def get(self): return scale(self.x)
    def scale(x): return x * FACTOR
    FACTOR = 3
    def both(i):
        fn, args = _codec.loads(_codec.dumps((P.get, (P(i),))))
        return fn(*args)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(both, range(300))) == [3 * i for i in range(300)]
    """)


def test_the_main_module_of_a_child_of_multiprocessing_goes_by_value_too(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(
        PROLOGUE.replace("_worker = ", "_worker = __name__ != '__main__' and ")
        + dedent("""
        import multiprocessing
        def helper(x): return x + 1
        def task(x): return helper(x), __name__
        def child():
            assert task.__module__ == "__mp_main__"
            assert there(task, 1) == (2, "__main__")
            with _worker:
                _worker.stdin.close()
        if __name__ == "__main__":
            process = multiprocessing.get_context("spawn").Process(target=child)
            process.start()
            process.join()
            assert process.exitcode == 0
        """)
    )
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_forked_worker_gets_what_was_defined_after_the_fork(script: Script) -> None:
    script("""
    import os
    from piecework import mainspace
    def helper(): return "old"
    conn = None
    state = {}
    class P: version = 1
    class Same: pass
    DEFAULT = Same()
    def task(p, same):
        assert isinstance(same, Same) and isinstance(DEFAULT, Same)
        return helper(), conn, state, type(p).version, type(p) is P
    forth, back = os.pipe(), os.pipe()
    if os.fork() == 0:
        mainspace.adopt(fresh=False)
        conn = state["conn"] = "opened"
        fn, args = _codec.loads(os.read(forth[0], 100000))
        os.write(back[1], _codec.dumps((fn(*args), P()), by_value_main=False))
        os._exit(0)
    def helper(): return "new"
    class P: version = 2
    os.write(forth[1], _codec.dumps((task, (P(), Same()))))
    told, made = _codec.loads(os.read(back[0], 100000))
    assert told == ("new", "opened", {"conn": "opened"}, 2, True), told
    assert type(made) is P
    os.wait()
    """)
