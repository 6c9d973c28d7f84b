"""Learners on cleaned features, all with one small interface: river's models behind ``update`` and ``predict``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np
from river import facto, linear_model, optim, reco

from processors.profile.cleaning import Cleaner, Columns, one_hot, split_records
from processors.profile.stored_model import dump_model, load_model

Floats = np.ndarray[Any, np.dtype[np.float64]]


class FeatureModel(Protocol):
    """Test, then train: what every feature model of a worker can do."""

    def update(self, columns: Columns, targets: Any) -> Floats:
        """Learn each record after predicting it: the predictions, float64[n]."""

    def predict(self, columns: Columns) -> Floats:
        """The prediction of each record, float64[n], without learning."""

    def to_bytes(self) -> bytes:
        """The model as it is, for ``processors.profile.load_feature_model``."""


class _Learner(ABC):
    """A river model on cleaned records; what one record is to it, a subclass says."""

    def update(self, columns: Columns, targets: Any) -> Floats:
        """Learn each record after predicting it: the predictions, float64[n].

        Raises:
            ValueError: columns and targets differ in length, or a target is not finite (0 or 1 for a classifier).
        """
        wanted = np.asarray(targets, np.float64)
        if wanted.ndim != 1 or any(len(column) != len(wanted) for column in columns.values()):
            raise ValueError(f"targets must be as long as the columns, got shape {wanted.shape}")
        if not self._accepts(wanted):
            raise ValueError("targets must be finite, and 0 or 1 for a classifier")
        predictions = np.empty(len(wanted), np.float64)
        for i, record in enumerate(self._records(columns, learn=True)):
            predictions[i] = self._predict(record)
            self._learn(record, float(wanted[i]))
        return predictions

    def predict(self, columns: Columns) -> Floats:
        """The prediction of each record, float64[n], without learning. Raises ValueError if the columns differ in length."""
        return np.array([self._predict(record) for record in self._records(columns, learn=False)], np.float64)

    def to_bytes(self) -> bytes:
        """The model as it is, for :func:`load_feature_model`."""
        return dump_model(self)

    def _accepts(self, targets: Floats) -> bool:
        return bool(np.isfinite(targets).all())

    @abstractmethod
    def _records(self, columns: Columns, learn: bool) -> list[Any]: ...

    @abstractmethod
    def _predict(self, record: Any) -> float: ...

    @abstractmethod
    def _learn(self, record: Any, target: float) -> None: ...


class _CleanedLearner(_Learner):
    """Numbers scaled by a :class:`Cleaner`; ``encode`` brings words into the form the model takes."""

    def __init__(self, model: Any, classifies: bool, spreads_words: bool) -> None:
        self._cleaner, self._model = Cleaner(), model
        self._classifies, self._spreads_words = classifies, spreads_words

    def _accepts(self, targets: Floats) -> bool:
        return super()._accepts(targets) and (not self._classifies or bool(np.isin(targets, (0.0, 1.0)).all()))

    def _records(self, columns: Columns, learn: bool) -> list[Any]:
        records = self._cleaner.learn(columns) if learn else self._cleaner.transform(columns)
        return [one_hot(record) for record in records] if self._spreads_words else records

    def _predict(self, record: Any) -> float:
        if self._classifies:
            return float(self._model.predict_proba_one(record).get(True, 0.5))
        return float(self._model.predict_one(record))

    def _learn(self, record: Any, target: float) -> None:
        self._model.learn_one(record, target > 0.5 if self._classifies else target)


class LinearRegression(_CleanedLearner):
    """Least squares by AdaGrad on scaled numbers and one-hot words, such as the time to a user's next event.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=2000)
        >>> model = LinearRegression()
        >>> _ = model.update({"x": x}, 3 * x + 1)
        >>> bool(abs(model.predict({"x": np.array([1.0])})[0] - 4) < 0.2)
        True
    """

    def __init__(self, learning_rate: float = 0.3, l2: float = 0.0) -> None:
        model = linear_model.LinearRegression(optim.AdaGrad(_rate(learning_rate)), l2=l2, intercept_lr=0.05)
        super().__init__(model, classifies=False, spreads_words=True)


class LogisticRegression(_CleanedLearner):
    """The probability of a yes by AdaGrad on scaled numbers and one-hot words, such as whether a user will explore."""

    def __init__(self, learning_rate: float = 0.3, l2: float = 0.0) -> None:
        model = linear_model.LogisticRegression(optim.AdaGrad(_rate(learning_rate)), l2=l2, intercept_lr=0.05)
        super().__init__(model, classifies=True, spreads_words=True)


class FactorisationMachine(_CleanedLearner):
    """The probability of a yes from all pairs of features (Rendle, ICDM 2010), for words too many to cross by hand."""

    def __init__(self, factors: int = 8, learning_rate: float = 0.1, seed: int = 0) -> None:
        if factors < 1:
            raise ValueError(f"factors must be at least 1, got {factors}")
        model = facto.FMClassifier(
            n_factors=factors,
            weight_optimizer=optim.AdaGrad(_rate(learning_rate)),
            latent_optimizer=optim.AdaGrad(_rate(learning_rate)),
            intercept_lr=0.05,
            seed=seed,
        )
        super().__init__(model, classifies=True, spreads_words=False)


class MatrixFactorisation(_Learner):
    """What a user gives an item: biases and a product of factors (Koren, Bell, Volinsky, Computer 42(8), 2009).

    Takes the integer columns ``user`` and ``item`` and no others.
    """

    def __init__(self, factors: int = 16, learning_rate: float = 0.05, l2: float = 0.02, seed: int = 0) -> None:
        if factors < 1:
            raise ValueError(f"factors must be at least 1, got {factors}")
        self._model = reco.BiasedMF(
            n_factors=factors,
            bias_optimizer=optim.SGD(_rate(learning_rate)),
            latent_optimizer=optim.SGD(_rate(learning_rate)),
            l2_bias=l2,
            l2_latent=l2,
            seed=seed,
        )

    def _records(self, columns: Columns, learn: bool) -> list[Any]:
        if set(columns) != {"user", "item"}:
            raise ValueError(f"columns must be user and item, got {sorted(columns)}")
        return [words for _, words in split_records(columns)]

    def _predict(self, record: Any) -> float:
        return float(self._model.predict_one(user=record["user"], item=record["item"]))

    def _learn(self, record: Any, target: float) -> None:
        self._model.learn_one(user=record["user"], item=record["item"], y=target)


_KINDS = (LinearRegression, LogisticRegression, FactorisationMachine, MatrixFactorisation)


def load_feature_model(payload: bytes) -> FeatureModel:
    """The model of ``to_bytes``. Raises ValueError for any other payload, or one of another version of river."""
    model = load_model(payload)
    if not isinstance(model, _KINDS):
        raise ValueError(f"payload is not a feature model but {type(model).__name__}")
    return model


def _rate(learning_rate: float) -> float:
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate}")
    return learning_rate
