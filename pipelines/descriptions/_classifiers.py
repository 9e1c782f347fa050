"""Classifiers: which of scikit-learn's are tried, with which settings, in which tier.

The first tier has one setting of each kind, with few iterations where many change little, and ends
within minutes. The full tier adds what takes hours: SVC, gradient boosting, iterations up to
scikit-learn's own limits, other depths and sizes, and three repeats.

Both go by the grid of 129 settings of Fashion-MNIST's benchmark (`benchmark/baselines.json` in its
repository). Not taken from it: what differs in the third digit only (most of its 18 forests and 15
losses and penalties of SGD), boosting of depth 10 and 50 and Manhattan distances (days), and
Gaussian processes (no memory holds 60,000² numbers). Its PassiveAggressiveClassifier is SGD with
`learning_rate="pa1"` by now.

Not here: trying them (`_fitting`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TIERS = ("first", "full")
REPEATS = {"first": 1, "full": 3}


@dataclass(frozen=True, slots=True)
class Setting:
    """A classifier with its parameters, as it is tried.

    classifier: the name of scikit-learn's class.
    parameters: where they are not scikit-learn's defaults, in JSON's types.
    cost_s: processor seconds that it takes for MNIST, about: who is tried first, and how far it is.
    """

    classifier: str
    parameters: Mapping[str, Any]
    cost_s: float

    @property
    def text(self) -> str:
        """Return the parameters as JSON, the same text each time."""
        return json.dumps(dict(self.parameters), sort_keys=True)

    def __str__(self) -> str:
        """Return it as it would be written in Python."""
        return f"{self.classifier}({in_python(self.parameters)})"


def in_python(parameters: Mapping[str, Any]) -> str:
    """Return parameters as Python writes them: `C=1.0, kernel='rbf'`."""
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in parameters.items()}
    return ", ".join(f"{name}={value!r}" for name, value in given.items())


def _of(classifier: str, cost_s: float, **parameters: Any) -> Setting:
    return Setting(classifier, parameters, cost_s)


FIRST = (
    _of("GaussianNB", 0.5),
    _of("DecisionTreeClassifier", 12, criterion="entropy", max_depth=10),
    _of("ExtraTreeClassifier", 0.3, criterion="entropy", max_depth=10),
    _of("RandomForestClassifier", 45, n_estimators=100, criterion="entropy", max_depth=100),
    _of("ExtraTreesClassifier", 25, n_estimators=100, criterion="gini"),
    _of("KNeighborsClassifier", 20, n_neighbors=5, algorithm="brute"),
    _of("LogisticRegression", 2, C=1.0, max_iter=30),
    _of("SGDClassifier", 12, loss="hinge", max_iter=20),
    _of("Perceptron", 9, max_iter=1000),
    _of("MLPClassifier", 4, hidden_layer_sizes=[100], max_iter=10),
)

FULL = (
    *FIRST,
    _of("DecisionTreeClassifier", 12, criterion="gini", max_depth=10),
    _of("DecisionTreeClassifier", 15, criterion="entropy", max_depth=50),
    _of("ExtraTreeClassifier", 0.5, criterion="entropy", max_depth=50),
    _of("RandomForestClassifier", 5, n_estimators=10, criterion="entropy", max_depth=100),
    _of("RandomForestClassifier", 20, n_estimators=100, criterion="gini", max_depth=10),
    _of("KNeighborsClassifier", 20, n_neighbors=1, algorithm="brute"),
    _of("KNeighborsClassifier", 20, n_neighbors=9, algorithm="brute", weights="distance"),
    _of("LogisticRegression", 20, C=1.0, max_iter=1000),
    _of("LogisticRegression", 20, C=10.0, max_iter=1000),
    _of("SGDClassifier", 300, loss="hinge", max_iter=1000),
    _of("SGDClassifier", 300, loss="log_loss", max_iter=1000),
    _of("SGDClassifier", 300, loss="modified_huber", max_iter=1000),
    _of(
        *("SGDClassifier", 15),
        loss="hinge",
        penalty=None,
        learning_rate="pa1",
        eta0=1.0,
    ),
    _of("LinearSVC", 600, C=1.0, max_iter=1000),
    _of("MLPClassifier", 80, hidden_layer_sizes=[100], max_iter=200),
    _of("MLPClassifier", 80, hidden_layer_sizes=[100, 10], max_iter=200),
    _of("MLPClassifier", 80, hidden_layer_sizes=[100], activation="tanh", max_iter=200),
    _of("SVC", 600, C=1.0, kernel="linear"),
    _of("SVC", 900, C=1.0, kernel="rbf"),
    _of("SVC", 900, C=10.0, kernel="rbf"),
    _of("SVC", 900, C=10.0, kernel="poly"),
    _of("HistGradientBoostingClassifier", 300, max_iter=100, early_stopping=False),
    _of("GradientBoostingClassifier", 6000, n_estimators=100, max_depth=3),
)


def of(tier: str) -> tuple[Setting, ...]:
    """Return what is tried in a tier."""
    return FULL if tier == "full" else FIRST
