"""What all tasks have in common: a batch of sequences, and how an answer is judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..errors import described, whole
from ..tensor import bare


class Batch(NamedTuple):
    """Sequences, time first, and what is to be said of them.

    Parameters
    ----------
    x : array, (T, B, F)
        The inputs.
    y : array
        The targets. With a mask, one for each step, (T, B, ...); without, one for each sequence, asked for at its end,
        (B, ...).
    lengths : array, (B,), optional
        How many steps each sequence has; None: all of them. After its end x is 0.
    mask : array of bool, (T, B), optional
        The steps that have a target; None: only the last one of each sequence has.

    Examples
    --------
    >>> batch = Batch(np.ones((5, 2, 1)), np.zeros((2, 1)), lengths=np.array([3, 5]))
    >>> outputs = np.arange(5.0)[:, None, None] * np.ones((5, 2, 1))
    >>> batch.answers(outputs).ravel()                 # at the last step of each
    array([2., 4.])
    """

    x: np.ndarray
    y: np.ndarray
    lengths: np.ndarray | None = None
    mask: np.ndarray | None = None

    def answers(self, ys: Any) -> Any:
        """Of a network's outputs, (T, B, ...), those that y is to be compared with: all, or the last ones.

        Parameters
        ----------
        ys : array or Tensor, (T, B, ...)
            The outputs at all steps.

        Returns
        -------
        array or Tensor, (T, B, ...) or (B, ...)
            One for each target.

        Raises
        ------
        ValueError
            The outputs are not of so many steps, or sequences.
        """
        if tuple(ys.shape[:2]) != self.x.shape[:2]:
            raise ValueError(f"ys: expected outputs (time, batch, ...) of {self.x.shape[:2]}, got {described(ys)}")
        if self.mask is not None:
            return ys
        if self.lengths is None:
            return ys[-1]
        return ys[self.lengths - 1, np.arange(len(self.lengths))]


class Task:
    """The base of the tasks: a subclass draws sequences (``batch``), and says which answers are wrong (``wrong``).

    Attributes
    ----------
    inputs : int
        The number of features of an input.
    outputs : int
        The number of features of an answer.
    baseline : float
        The error of what has no memory, in the unit that the task's docstring says.
    tested : int
        Of so many new sequences ...
    allowed : int
        ... so many may be wrong where the task counts as solved.

    Examples
    --------
    >>> class Parity(Task):
    ...     inputs, outputs, baseline = 1, 1, 0.5
    ...     def batch(self, size, rng=None):
    ...         x = np.random.default_rng(rng).integers(2, size=(10, size, 1))
    ...         return Batch(x, x.sum(axis=0) % 2)
    ...     def wrong(self, answers, batch):
    ...         return (np.round(answers) != batch.y)[:, 0]
    >>> Parity().is_solved(lambda batch: batch.x.cumsum(axis=0) % 2)
    True
    """

    inputs: int
    outputs: int
    baseline: float
    tested: int = 2560
    allowed: int = 0

    def batch(self, size: int, rng: Any = None) -> Batch:
        """New sequences, drawn at random.

        Parameters
        ----------
        size : int
            How many.
        rng : int or Generator, optional
            What they are drawn from.

        Returns
        -------
        Batch
            The sequences, and their targets.
        """
        raise NotImplementedError(
            f"{type(self).__name__}: a task draws its sequences in batch(), and this one has none"
        )

    def wrong(self, answers: Any, batch: Batch) -> np.ndarray:
        """Which sequences were processed wrongly, as the source counts them.

        Parameters
        ----------
        answers : array or Tensor
            What ``batch.answers`` picked of the outputs, in the unit of the targets (after a sigmoid or a softmax).
        batch : Batch
            What they are the answers to.

        Returns
        -------
        array of bool, (B,)
            True for those that are wrong.

        Raises
        ------
        ValueError
            The answers are not of the shape that the task asks for.
        """
        raise NotImplementedError(f"{type(self).__name__}: a task judges answers in wrong(), and this one has none")

    def count_wrong(self, outputs: Callable, number: int | None = None, rng: Any = None, size: int = 512) -> int:
        """How many new sequences a network processes wrongly.

        Parameters
        ----------
        outputs : callable
            ``outputs(batch)``, what the network says at all steps, (T, B, outputs), in the unit of the targets.
        number : int, optional
            Of so many; by default ``tested``.
        rng : int or Generator, optional
            What the sequences are drawn from.
        size : int, optional
            So many are processed at once.

        Returns
        -------
        int
            The number of wrong ones.
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
        """Whether a network processes all but ``allowed`` of ``tested`` new sequences rightly.

        Parameters
        ----------
        outputs : callable
            As of :meth:`count_wrong`.
        rng : int or Generator, optional
            What the sequences are drawn from.

        Returns
        -------
        bool
            Whether the task counts as solved.
        """
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
