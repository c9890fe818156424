"""What all tasks have in common: a batch of sequences, and how an answer is judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..errors import described, whole
from ..tensor import bare


class Batch(NamedTuple):
    """Sequences, time first, and what is to be said of them.

    Attributes:
        x: the inputs, (time, batch, features).
        y: the targets. With a mask, one for each step, (time, batch, ...); without, one for each sequence, asked for at
            its end, (batch, ...).
        lengths: how many steps each sequence has, (batch,); None: all of them. After its end x is 0.
        mask: (time, batch) booleans: the steps that have a target; None: only the last one of each sequence has.
    """

    x: np.ndarray
    y: np.ndarray
    lengths: np.ndarray | None = None
    mask: np.ndarray | None = None

    def answers(self, ys: Any) -> Any:
        """Of a network's outputs, (time, batch, ...), those that y is to be compared with: all, or the last ones."""
        if tuple(ys.shape[:2]) != self.x.shape[:2]:
            raise ValueError(f"ys: expected outputs (time, batch, ...) of {self.x.shape[:2]}, got {described(ys)}")
        if self.mask is not None:
            return ys
        if self.lengths is None:
            return ys[-1]
        return ys[self.lengths - 1, np.arange(len(self.lengths))]


class Task:
    """The base of the tasks: a subclass draws sequences (``batch``), and says which answers are wrong (``wrong``).

    Attributes:
        inputs, outputs: the number of features of an input, and of an answer.
        baseline: the error of what has no memory, in the unit that the task's docstring says.
        tested, allowed: of so many new sequences, so many may be wrong where the task counts as solved.
    """

    inputs: int
    outputs: int
    baseline: float
    tested: int = 2560
    allowed: int = 0

    def batch(self, size: int, rng: Any = None) -> Batch:
        """New sequences, drawn at random: so many. rng: a seed, or a ``numpy.random.Generator``."""
        raise NotImplementedError(
            f"{type(self).__name__}: a task draws its sequences in batch(), and this one has none"
        )

    def wrong(self, answers: Any, batch: Batch) -> np.ndarray:
        """Which sequences were processed wrongly, as the source counts them: (batch,) booleans.

        answers: what ``batch.answers`` picked of the outputs, in the unit of the targets (after a sigmoid or a
        softmax).
        """
        raise NotImplementedError(f"{type(self).__name__}: a task judges answers in wrong(), and this one has none")

    def count_wrong(self, outputs: Callable, number: int | None = None, rng: Any = None, size: int = 512) -> int:
        """How many of so many new sequences (by default ``tested``) a network processes wrongly.

        outputs: ``outputs(batch)``, what the network says at all steps, (time, batch, outputs), in the unit of targets.
        """
        number, rng, wrong = (
            self.tested if number is None else whole("number", number, 1),
            np.random.default_rng(rng),
            0,
        )
        for begin in range(0, number, size):
            batch = self.batch(min(size, number - begin), rng)
            wrong += int(self.wrong(batch.answers(outputs(batch)), batch).sum())
        return wrong

    def is_solved(self, outputs: Callable, rng: Any = None) -> bool:
        """Whether a network processes all but ``allowed`` of ``tested`` new sequences rightly."""
        return self.count_wrong(outputs, rng=rng) <= self.allowed

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if np.isscalar(value))
        return f"{type(self).__name__}({settings})"


def array_of(answers: Any, batch: Batch) -> np.ndarray:
    """Answers as an array; an error if there is not one for each target."""
    answers = np.asarray(bare(answers))
    if answers.shape != batch.y.shape:
        raise ValueError(f"answers: expected one for each target, {batch.y.shape}, got {described(answers)}; "
                         "batch.answers(ys) picks them of a network's outputs")  # fmt: skip
    return answers
