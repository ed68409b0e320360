"""`register_joblib`: after it, joblib knows a backend "piecework".

joblib is no dependency of ours: it is imported only when this is called.
"""

from __future__ import annotations

from piecework.errors import UsageError

OLDEST = (1, 4)


def register_joblib() -> None:
    """Make `joblib.parallel_config(backend="piecework")` run on our worker processes.

    What uses joblib, as scikit-learn's `n_jobs` does, runs unchanged. The death of a worker raises
    WorkerLost, which names the call that it ran. UsageError where joblib is missing or too old.
    """
    try:
        import joblib
    except ImportError as error:
        raise UsageError(
            "joblib is not installed, so there is nothing to register with: pip install joblib"
        ) from error
    version = tuple(int(part) for part in joblib.__version__.split(".")[:2])
    if version < OLDEST:
        raise UsageError(
            f"joblib {joblib.__version__} is too old: pip install 'joblib>={OLDEST[0]}.{OLDEST[1]}'"
        )
    from piecework.joblib_backend import PieceworkBackend

    joblib.register_parallel_backend("piecework", PieceworkBackend)
