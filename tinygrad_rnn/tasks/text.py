"""Text, character by character: what comes next? One that ships with the package, and n-grams to be compared with.

A model's score is its cross-entropy in bits per character, on a part of the text that it was not trained on. A sequence
is cut into parallel streams (:func:`~tinygrad_rnn.tasks.streams`), over which ``bptt.truncated`` goes window by window.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from ..errors import described, whole

__all__ = ["Characters", "characters", "constitution", "streams", "witten_bell"]


class Characters(NamedTuple):
    """A text as numbers: the place of each character in an alphabet.

    Parameters
    ----------
    alphabet : str
        All characters of the text, in order.
    train, test : array of int64, (characters,)
        Its first part, and what was held out.

    Examples
    --------
    >>> text = characters("hello world")
    >>> text.alphabet, text.encode("hold"), text.decode(text.test)
    (' dehlorw', array([3, 5, 4, 1]), 'ld')
    """

    alphabet: str
    train: np.ndarray
    test: np.ndarray

    def encode(self, text: str) -> np.ndarray:
        """The numbers of a text's characters.

        Parameters
        ----------
        text : str
            Of characters in the alphabet.

        Returns
        -------
        array of int64, (characters,)
            Their places in the alphabet.

        Raises
        ------
        ValueError
            A character is not in the alphabet.
        """
        places = {character: i for i, character in enumerate(self.alphabet)}
        if unknown := sorted({*text} - {*places}):
            raise ValueError(f"text: {unknown[0]!r} is not in the alphabet (in all, {len(unknown)} characters are not)")
        return np.array([places[character] for character in text], dtype=np.int64)

    def decode(self, codes: Any) -> str:
        """The text that numbers stand for.

        Parameters
        ----------
        codes : array of int, (characters,)
            Places in the alphabet.

        Returns
        -------
        str
            The text.

        Raises
        ------
        ValueError
            They are no such places.
        """
        codes = np.asarray(codes)
        if codes.dtype.kind not in "iu" or codes.ndim != 1 or ((codes < 0) | (codes >= len(self.alphabet))).any():
            raise ValueError(f"codes: expected whole numbers from 0 to {len(self.alphabet) - 1}, (characters,), got "
                             f"{described(codes)}")  # fmt: skip
        return "".join(self.alphabet[i] for i in codes)


def constitution() -> str:
    """The Constitution of the United States, with its 27 amendments: 45,345 characters, of 71 kinds.

    It ships with the package (see ``data/README.md`` there: from the GNU miscfiles as Debian has them, public domain).

    Returns
    -------
    str
        The text.

    Examples
    --------
    >>> text = constitution()
    >>> len(text), len(set(text)), text[:48]
    (45345, 71, 'The Constitution of the United States of America')
    """
    return resources.files(__package__).joinpath("data/us-constitution.txt").read_bytes().decode("ascii")


def characters(text: str | None = None, held_out: float = 0.1) -> Characters:
    """A text as numbers, its last part held out.

    Baselines for the default, in bits per character of its last tenth, n-grams with Witten and Bell's smoothing
    (:func:`~tinygrad_rnn.tasks.witten_bell`): of order 0 4.51, 1 3.32, 2 2.36, 3 1.80, 4 1.69, 5 1.72; of an alphabet
    of 71 without any model, log₂ 71 = 6.15.

    Parameters
    ----------
    text : str, optional
        By default the :func:`~tinygrad_rnn.tasks.constitution`; any other text does.
    held_out : float, optional
        The share of it that is only for tests.

    Returns
    -------
    Characters
        ``(alphabet, train, test)``.

    Raises
    ------
    ValueError
        The text has fewer than two characters, or there is no such share.

    Examples
    --------
    >>> text = characters()
    >>> len(text.alphabet), len(text.train), len(text.test), text.decode(text.train[:16])
    (71, 40810, 4535, 'The Constitution')
    """
    text = constitution() if text is None else text
    if not isinstance(text, str) or len(text) < 2:
        raise ValueError(f"text: expected one of at least two characters, got {described(text)}")
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out: expected a share from 0 to below 1, got {held_out!r}")
    alphabet, cut = "".join(sorted(set(text))), int(len(text) * (1 - held_out))
    codes = Characters(alphabet, None, None).encode(text)
    return Characters(alphabet, codes[:cut], codes[cut:])


def streams(codes: Any, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """A sequence of numbers, cut into so many parts that are read side by side: inputs and targets.

    The target is the number that comes next. Each part goes on where the one before ends, so that with a state that is
    carried from window to window nothing but the beginning of a part is read without what came before. All parts are of
    one length: up to batch - 1 numbers at the end are in none.

    Parameters
    ----------
    codes : array of int, (characters,)
        The sequence.
    batch : int
        How many parts.

    Returns
    -------
    inputs, targets : array of int, (T, batch)
        The same numbers, the targets a step ahead.

    Raises
    ------
    ValueError
        The codes are no such sequence, or too few.

    Examples
    --------
    >>> inputs, targets = streams(np.arange(8), 2)
    >>> inputs.T.tolist(), targets.T.tolist()
    ([[0, 1, 2], [3, 4, 5]], [[1, 2, 3], [4, 5, 6]])
    """
    codes, batch = np.asarray(codes), whole("batch", batch, 1)
    if codes.ndim != 1 or codes.dtype.kind not in "iu":
        raise ValueError(f"codes: expected whole numbers, (characters,), got {described(codes)}")
    time = (len(codes) - 1) // batch
    if time < 1:
        raise ValueError(f"codes: {batch} streams need at least {batch + 1} of them, got {len(codes)}")
    return tuple(codes[i : i + time * batch].reshape(batch, time).T.copy() for i in (0, 1))


def witten_bell(train: Sequence, test: Sequence, order: int, symbols: int) -> float:
    """Bits per character of an n-gram model, smoothed as Witten and Bell (1991) do: what a recurrent net has to beat.

    The probability of a character c after the history h, the last ``order`` characters::

        P(c | h) = (n(h c) + t(h) P(c | h')) / (n(h) + t(h))

    where n(h) is how often the history was seen in training, t(h) how many different characters came after it, and h'
    is h without its first one; below order 0, P = 1/symbols. The histories of the first test characters reach back into
    the training text: test is its continuation.

    Parameters
    ----------
    train, test : sequence
        Of characters or numbers.
    order : int
        How many characters are in a history.
    symbols : int
        The size of the alphabet.

    Returns
    -------
    float
        The mean cross-entropy of test, in bits.

    Raises
    ------
    ValueError
        Train or test is empty.

    Examples
    --------
    >>> round(witten_bell("ababababab", "abab", 1, 2), 3)
    0.139
    """
    order, symbols = whole("order", order, 0), whole("symbols", symbols, 1)
    train, test = tuple(train), tuple(test)
    if not train or not test:
        raise ValueError(f"train, test: expected something in both, got {len(train)} and {len(test)} characters")
    follow: dict[tuple, Counter] = {}
    for i, character in enumerate(train):
        for k in range(min(order, i) + 1):
            follow.setdefault(train[i - k : i], Counter())[character] += 1
    seen = {history: after.total() for history, after in follow.items()}
    text, bits = train + test, 0.0
    for i in range(len(train), len(text)):
        p = 1 / symbols
        for k in range(min(order, i) + 1):
            if (history := text[i - k : i]) not in follow:
                break  # no longer one was seen, either
            after = follow[history]
            p = (after[text[i]] + len(after) * p) / (seen[history] + len(after))
        bits -= math.log2(p)
    return bits / len(test)
