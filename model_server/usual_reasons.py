"""What experts say for themselves, made once: most reasons are alike."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from schemas.recommendations import Reason

Ints = npt.NDArray[np.int64]
WHOLE = 1000  # parts: weights are told to the third decimal
WORDS = {
    "habit": "you come here often",
    "personal": "you come here often",
    "recency": "you have been here lately",
    "hour": "you come here at about this hour",
    "weekday": "you come here on this day of the week",
    "interval": "it is about time for your next visit",
    "repeat": "you were here just now",
    "transition": "this is where you go next",
    "covisit": "people who go where you go also come here",
    "neighbours": "people with your habits come here",
    "distance": "it is close to where you were last",
    "popularity": "many people come here",
    "popular": "many people come here",
    "trend": "it has been gaining visitors lately",
    "home": "it is close to where you spend most of your time",
    "today": "it fits what you have done today",
    "category": "it is of a kind you like",
    "content": "it resembles what you have chosen before",
    "sequence": "it fits the course of your latest steps",
    "crowd": "people are gathering here",
    "cluster": "people are gathering here",
    "period": "you come here regularly",
    "forecast": "many visitors are expected soon",
    "profile": "it fits your profile",
    "time_of_day": "many people come here at this hour",
    "catalogue": "it is new to everybody here",
}


class UsualReasons:
    """The reasons of some experts by weight, made when they are given for the first time.

    >>> UsualReasons(["habit"]).of(np.array([[0, 0]]), np.array([[750, 0]]))
    [[Reason(pattern='habit', weight=0.75, text='you come here often'), None]]
    """

    def __init__(self, experts: Sequence[str]) -> None:
        self._experts = experts
        self._made = np.full((len(experts), WHOLE + 1), None, object)
        self._is_made = np.zeros(self._made.shape, np.bool_)
        self._is_made[:, 0] = True  # no weight, no reason

    def of(self, columns: Ints, parts: Ints) -> list[list[Reason | None]]:
        """The reason of the expert in each column with so many of the ``WHOLE`` parts, None for none of them; [n, m] each."""
        missing = ~self._is_made[columns, parts]
        if missing.any():
            for column, part in zip(columns[missing].tolist(), parts[missing].tolist()):
                self._make(column, part)
        found: list[list[Reason | None]] = self._made[columns, parts].tolist()
        return found

    def _make(self, column: int, part: int) -> None:
        if not self._is_made[column, part]:
            expert = self._experts[column]
            self._made[column, part] = reason_of(expert, part, WORDS.get(expert) or f"the {expert} expert favours it")
            self._is_made[column, part] = True


def reason_of(expert: str, part: int, text: str) -> Reason:
    """A reason with so many of the ``WHOLE`` parts."""
    return Reason(pattern=expert, weight=part / WHOLE, text=text)
