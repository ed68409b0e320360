"""scikit-learn's n_jobs runs unchanged on our workers."""

from __future__ import annotations

from typing import Any

import pytest

import piecework

joblib: Any = pytest.importorskip("joblib", reason="pip install joblib")
pytest.importorskip("sklearn", reason="pip install --group sklearn")

from sklearn.datasets import make_classification  # noqa: E402
from sklearn.ensemble import RandomForestClassifier  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402

FEATURES, LABELS = make_classification(400, 10, random_state=0)


@pytest.fixture(autouse=True)
def _registered() -> None:
    piecework.register_joblib()


def test_cross_validation_gives_what_it_gives_alone() -> None:
    model = RandomForestClassifier(10, random_state=0)
    alone = cross_val_score(model, FEATURES, LABELS, cv=4)
    with joblib.parallel_config(backend="piecework"):
        scores = cross_val_score(model, FEATURES, LABELS, cv=4, n_jobs=2)
    assert list(scores) == list(alone)


def test_a_grid_search_finds_what_it_finds_alone() -> None:
    grid = {"C": [0.01, 0.1, 1.0, 10.0]}
    alone = GridSearchCV(LogisticRegression(), grid, cv=3).fit(FEATURES, LABELS)
    with joblib.parallel_config(backend="piecework"):
        search = GridSearchCV(LogisticRegression(), grid, cv=3, n_jobs=2).fit(FEATURES, LABELS)
    assert search.best_params_ == alone.best_params_


def test_a_forest_is_grown_and_asked() -> None:
    """It prefers threads, and needs them where it is asked: joblib decides that."""
    alone = RandomForestClassifier(20, random_state=0).fit(FEATURES, LABELS)
    with joblib.parallel_config(backend="piecework"):
        forest = RandomForestClassifier(20, random_state=0, n_jobs=2).fit(FEATURES, LABELS)
        answers = forest.predict(FEATURES)
    assert list(answers) == list(alone.predict(FEATURES))
