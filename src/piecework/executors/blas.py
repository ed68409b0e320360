"""Thread pools of native libraries (BLAS, OpenMP and the like): one of them for each worker process
would be as many threads a core as there are workers.

Where a library is not loaded yet, variables of the environment say how many threads it may start.
What the user has set stays as it is; where OMP_NUM_THREADS is set, so do those that obey it.
A worker that was forked may have libraries loaded that have read their variables long ago: they
are told by a call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

OBEY_OMP = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
VARIABLES = (
    "OMP_NUM_THREADS",
    *OBEY_OMP,
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)

# Part of a library's file name: the variable that it obeys, and names of its two functions.
_LIBRARIES = (
    ("openblas", "OPENBLAS_NUM_THREADS", "{}openblas_set_num_threads{}",
     "{}openblas_get_num_threads{}"),
    ("mkl_rt", "MKL_NUM_THREADS", "MKL_Set_Num_Threads", "MKL_Get_Max_Threads"),
    ("blis", "BLIS_NUM_THREADS", "bli_thread_set_num_threads", "bli_thread_get_num_threads"),
    ("gomp", "OMP_NUM_THREADS", "omp_set_num_threads", "omp_get_max_threads"),
    ("iomp5", "OMP_NUM_THREADS", "omp_set_num_threads", "omp_get_max_threads"),
    ("libomp", "OMP_NUM_THREADS", "omp_set_num_threads", "omp_get_max_threads"),
)  # fmt: skip
_MAPS = "/proc/self/maps"
_FRAMES = [(before, after) for before in ("", "scipy_") for after in ("", "64_", "_64")]


class Pool:
    """A library that is loaded in this process: `ask` says how many threads, `tell` sets it."""

    def __init__(
        self, path: str, variable: str, ask: Callable[[], int], tell: Callable[[int], object]
    ) -> None:
        self.path = path
        self.variable = variable
        self.ask = ask
        self.tell = tell

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


def limits(environ: Mapping[str, str], threads: int) -> dict[str, str]:
    """The variables to be set, so that such libraries start so many threads."""
    obeyed = OBEY_OMP if "OMP_NUM_THREADS" in environ else ()
    return {name: str(threads) for name in VARIABLES if name not in environ and name not in obeyed}


def limit_loaded(set_now: Mapping[str, str]) -> None:
    """Tell libraries that are loaded already what `limits` has set."""
    for pool in pools():
        if pool.variable in set_now:
            pool.tell(int(set_now[pool.variable]))
    if not os.path.exists(_MAPS):
        _ask_threadpoolctl(int(min(set_now.values(), key=int, default="0")))


def _ask_threadpoolctl(threads: int) -> None:
    """Where the system does not list what is loaded; it comes with scikit-learn."""
    try:
        import threadpoolctl  # type: ignore[import-not-found]  # no dependency of ours
    except ImportError:
        return
    if threads:
        threadpoolctl.threadpool_limits(threads)


def pools() -> Iterator[Pool]:
    """The libraries loaded here that can be told; none where the system does not list them."""
    for path in _mapped():
        for part, variable, tell, ask in _LIBRARIES:
            if part in os.path.basename(path):
                found = _functions(path, tell, ask)
                if found is not None:
                    yield Pool(path, variable, *found)
                break


def _mapped() -> list[str]:
    """Shared libraries in the memory of this process."""
    try:
        with open(_MAPS, encoding="utf-8", errors="surrogateescape") as file:
            paths = {line.rstrip("\n").partition("/")[2] for line in file if ".so" in line}
    except OSError:
        return []
    return sorted(f"/{path}" for path in paths)


def _functions(
    path: str, tell: str, ask: str
) -> tuple[Callable[[], int], Callable[[int], object]] | None:
    import ctypes

    try:
        library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return None
    for frame in _FRAMES if "{}" in tell else [("", "")]:
        try:
            return library[ask.format(*frame)], library[tell.format(*frame)]
        except AttributeError:
            continue
    return None
