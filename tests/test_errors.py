"""The error tree: as it is drawn, catchable by the standard names, able to travel."""

from __future__ import annotations

import concurrent.futures
import inspect
import pickle
import re

import pytest

from piecework import errors, losses

ALL = [
    cls
    for module in (errors, losses)
    for _, cls in inspect.getmembers(module, inspect.isclass)
    if issubclass(cls, errors.PieceworkError) and cls.__module__ == module.__name__
]


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_error_is_drawn_in_the_tree_and_explained(cls: type[Exception]) -> None:
    assert re.search(rf"\b{cls.__name__}\b", errors.__doc__ or "")
    assert cls.__doc__


def test_the_tree_draws_nothing_that_is_not_there() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert set(drawn) | {"PieceworkError"} == {cls.__name__ for cls in ALL}


@pytest.mark.parametrize(
    ("cls", "standard"),
    [
        (errors.UsageError, ValueError),
        (errors.CannotPickle, pickle.PicklingError),
        (errors.CannotPickle, errors.UsageError),
        (errors.TaskTimeout, TimeoutError),
        (losses.WorkerLost, concurrent.futures.BrokenExecutor),
        (losses.ExecutorBroken, concurrent.futures.BrokenExecutor),
        (errors.DeadlineExceeded, errors.RunHalted),
        (errors.DeadlineExceeded, TimeoutError),
        (errors.QueueUnreachable, ConnectionError),
    ],
)
def test_code_that_knows_only_the_standard_names_catches_it(
    cls: type[Exception], standard: type[Exception]
) -> None:
    assert issubclass(cls, standard)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_error_travels_with_its_message(cls: type[Exception]) -> None:
    again = pickle.loads(pickle.dumps(cls("what happened")))
    assert type(again) is cls
    assert str(again) == "what happened"


def test_a_lost_worker_keeps_how_it_ended() -> None:
    lost = losses.WorkerLost("killed", signal=9, out_of_memory=True)
    again = pickle.loads(pickle.dumps(lost))
    assert (again.signal, again.exitcode, again.out_of_memory) == (9, None, True)


def test_an_input_error_keeps_its_index() -> None:
    assert pickle.loads(pickle.dumps(errors.InputError("no", index=7))).index == 7
