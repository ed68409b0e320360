"""Every library behind the same two calls: `map(fn, inputs, chunk)` and `one(fn, value)`.

`chunk=None` leaves the library at its default. `map` may return a list or an iterator; the
caller consumes it. A pool is opened with `with pool("loky", workers) as its: ...`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rounds import Missing

Map = Callable[[Callable[..., Any], Iterable[Any], Any], Iterable[Any]]


@dataclass
class Pool:
    map: Map
    one: Callable[[Callable[..., Any], Any], Any]


OPEN: dict[str, Callable[[int], Any]] = {}
OURS: set[str] = set()
HEAVY = {"dask", "ray"}


def pool(name: str, workers: int) -> Any:
    return OPEN[name](workers)


def _named(name: str, *, ours: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(make: Callable[[int], Iterator[Pool]]) -> Callable[..., Any]:
        OPEN[name] = contextmanager(make)
        if ours:
            OURS.add(name)
        return OPEN[name]

    return add


def _sized(chunk: Any) -> dict[str, Any]:
    return {} if chunk is None else {"chunksize": chunk}


@_named("serial loop")
def _serial(workers: int) -> Iterator[Pool]:
    yield Pool(lambda fn, inputs, chunk: map(fn, inputs), lambda fn, value: fn(value))


def _futures(executor: Any) -> Iterator[Pool]:
    with executor:
        yield Pool(
            lambda fn, inputs, chunk: executor.map(fn, inputs, **_sized(chunk)),
            lambda fn, value: executor.submit(fn, value).result(),
        )


@_named("ThreadPoolExecutor")
def _threads(workers: int) -> Iterator[Pool]:
    return _futures(futures.ThreadPoolExecutor(workers))


@_named("ProcessPoolExecutor")
def _processes(workers: int) -> Iterator[Pool]:
    return _futures(futures.ProcessPoolExecutor(workers))


@_named("loky")
def _loky(workers: int) -> Iterator[Pool]:
    import loky

    return _futures(loky.ProcessPoolExecutor(workers))


@_named("multiprocessing.Pool.map")
def _pool_map(workers: int) -> Iterator[Pool]:
    with multiprocessing.Pool(workers) as made:
        yield Pool(
            lambda fn, inputs, chunk: made.map(fn, inputs, **_sized(chunk)),
            lambda fn, value: made.apply(fn, (value,)),
        )


@_named("multiprocessing.Pool.imap")
def _pool_imap(workers: int) -> Iterator[Pool]:
    with multiprocessing.Pool(workers) as made:
        yield Pool(
            lambda fn, inputs, chunk: made.imap(fn, inputs, **_sized(chunk)),
            lambda fn, value: made.apply(fn, (value,)),
        )


@_named("multiprocessing.Pool.imap_unordered")
def _pool_imap_unordered(workers: int) -> Iterator[Pool]:
    with multiprocessing.Pool(workers) as made:
        yield Pool(
            lambda fn, inputs, chunk: made.imap_unordered(fn, inputs, **_sized(chunk)),
            lambda fn, value: made.apply(fn, (value,)),
        )


@_named("joblib")
def _joblib(workers: int) -> Iterator[Pool]:
    import joblib

    def run(fn: Any, inputs: Iterable[Any], chunk: Any) -> Any:
        sized = {} if chunk is None else {"batch_size": chunk}
        made = joblib.Parallel(workers, return_as="generator", **sized)
        return made(joblib.delayed(fn)(value) for value in inputs)

    yield Pool(run, lambda fn, value: next(iter(run(fn, [value], None))))


@_named("mpire")
def _mpire(workers: int) -> Iterator[Pool]:
    import mpire

    with mpire.WorkerPool(workers) as made:
        yield Pool(
            lambda fn, inputs, chunk: made.imap(
                fn,
                ((value,) for value in inputs),
                iterable_len=len(inputs) if hasattr(inputs, "__len__") else None,
                **({} if chunk is None else {"chunk_size": chunk}),
            ),
            lambda fn, value: made.apply(fn, (value,)),
        )


@_named("pebble")
def _pebble(workers: int) -> Iterator[Pool]:
    import pebble

    with pebble.ProcessPool(workers) as made:
        yield Pool(
            lambda fn, inputs, chunk: made.map(fn, inputs, **_sized(chunk)).result(),
            lambda fn, value: made.schedule(fn, args=[value]).result(),
        )
        made.stop()


@_named("dask")
def _dask(workers: int) -> Iterator[Pool]:
    from distributed import Client

    with Client(n_workers=workers, threads_per_worker=1, dashboard_address=None) as client:
        yield Pool(
            lambda fn, inputs, chunk: client.gather(
                client.map(
                    fn, list(inputs), pure=False, **({} if chunk is None else {"batch_size": chunk})
                )
            ),
            lambda fn, value: client.submit(fn, value, pure=False).result(),
        )


@_named("ray")
def _ray(workers: int) -> Iterator[Pool]:
    import ray
    from ray.util.multiprocessing import Pool as RayPool

    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    remote: dict[Any, Any] = {}

    def one(fn: Any, value: Any) -> Any:
        made = remote.get(fn) or remote.setdefault(fn, ray.remote(fn))
        return ray.get(made.remote(value))

    with RayPool(workers) as made:
        yield Pool(lambda fn, inputs, chunk: made.imap(fn, inputs, **_sized(chunk)), one)
    ray.shutdown()


@_named("asyncio")
def _asyncio(workers: int) -> Iterator[Pool]:
    async def gather(fn: Any, inputs: Iterable[Any]) -> list[Any]:
        return await asyncio.gather(*[asyncio.create_task(fn(value)) for value in inputs])

    with asyncio.Runner() as runner:
        yield Pool(
            lambda fn, inputs, chunk: runner.run(gather(fn, inputs)),
            lambda fn, value: runner.run(fn(value)),
        )


# ---------------------------------------------------------------------------- ours


def need(name: str) -> Any:
    """The public name of piecework, or Missing where it is not written yet."""
    try:
        import piecework

        return getattr(piecework, name)
    except AttributeError as error:
        raise Missing("does not exist yet") from error
    except ImportError as error:
        raise Missing(f"does not exist yet ({error})") from error


@_named("piecework.ThreadExecutor", ours=True)
def _our_threads(workers: int) -> Iterator[Pool]:
    return _futures(need("ThreadExecutor")(workers))


@_named("piecework.ProcessExecutor", ours=True)
def _our_processes(workers: int) -> Iterator[Pool]:
    return _futures(need("ProcessExecutor")(workers))


@_named("piecework.ProcessExecutor, 2 threads each", ours=True)
def _our_mixed(workers: int) -> Iterator[Pool]:
    return _futures(need("ProcessExecutor")(workers, threads=2))


def _our_pool(call: str) -> None:
    @_named(f"piecework.Pool.{call}", ours=True)
    def _run(workers: int) -> Iterator[Pool]:
        with need("Pool")(workers) as made:
            yield Pool(
                lambda fn, inputs, chunk: getattr(made, call)(fn, inputs, **_sized(chunk)),
                lambda fn, value: made.apply(fn, (value,)),
            )


for _call in ("map", "imap", "imap_unordered"):
    _our_pool(_call)


@_named("joblib on piecework", ours=True)
def _our_joblib(workers: int) -> Iterator[Pool]:
    import joblib

    need("register_joblib")()
    with joblib.parallel_config(backend="piecework"), pool("joblib", workers) as its:
        yield its


@_named("piecework.CoroutineExecutor", ours=True)
def _our_coroutines(workers: int) -> Iterator[Pool]:
    return _futures(need("CoroutineExecutor")())


@_named("piecework.CoroutineExecutor, loop per process", ours=True)
def _our_loops(workers: int) -> Iterator[Pool]:
    return _futures(need("CoroutineExecutor")(processes=workers))


def _our_map(on: str) -> None:
    @_named(f'piecework.map(on="{on}")', ours=True)
    def _run(workers: int) -> Iterator[Pool]:
        made = need("map")
        sized = {} if on in ("coroutines", "auto", "inline") else {"workers": workers}

        def run(fn: Any, inputs: Iterable[Any], chunk: Any) -> Any:
            more = {} if chunk is None else {"batch_size": chunk}
            return made(fn, inputs, on=on, **sized, **more)

        yield Pool(run, lambda fn, value: next(iter(run(fn, [value], None))))


for _on in ("processes", "threads", "coroutines", "inline", "auto"):
    _our_map(_on)


@_named("piecework.map(on=executor)", ours=True)
def _our_map_on_executor(workers: int) -> Iterator[Pool]:
    made = need("map")
    with need("ProcessExecutor")(workers) as executor:

        def run(fn: Any, inputs: Iterable[Any], chunk: Any) -> Any:
            more = {} if chunk is None else {"batch_size": chunk}
            return made(fn, inputs, on=executor, **more)

        yield Pool(run, lambda fn, value: next(iter(run(fn, [value], None))))
