"""Tasks with long lags: what is asked for at the end depends on what was there at the beginning.

Those of Hochreiter and Schmidhuber (1997), "Long short-term memory", Neural Computation 9: experiments 1 to 6, as the
paper defines them; copy memory (Arjovsky et al., 2016); temporal order as Pascanu et al. (2013) have it. No networks
here, and no training: the nets that the paper used are :class:`~tinygrad_rnn.nn.LSTM1997Cell`, with its readout. They
were trained online, one sequence after another: ``batch(1, rng)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..errors import described, whole
from ..tensor import bare
from .task import Batch, Task, array_of

# The embedded Reber grammar -------------------------------------------------------------------------------------------

REBER = (  # where each symbol leads to, from each node; the last one has no way on
    {"B": 1}, {"T": 2, "P": 3}, {"S": 2, "X": 4}, {"T": 3, "V": 5}, {"X": 3, "S": 6}, {"P": 4, "V": 6}, {"E": 7}, {},
)  # fmt: skip


def embedded() -> tuple[dict[str, int], ...]:
    """The graph with two copies of Reber's in it: what leads in, T or P, leads out again."""
    inner, first = len(REBER) - 1, 2
    nodes: list[dict[str, int]] = [{"B": 1}, {"T": first, "P": first + inner + 1}]
    for symbol in "TP":
        begin = len(nodes)
        nodes += [{s: begin + to for s, to in ways.items()} for ways in REBER[:-1]]
        nodes.append({symbol: first + 2 * (inner + 1)})
    return (*nodes, {"E": len(nodes) + 1}, {})


class EmbeddedReber(Task):
    """Experiment 1: read a string of the embedded Reber grammar, and say at each step which symbols may come next.

    A string is a walk through a graph; where two ways lead on, each is taken with probability 1/2. It begins with B and
    T or P; a string of Reber's grammar follows; and it ends with the same T or P, and E. So the last symbol but one is
    that of the second step, 6 steps back or more. There are 256 strings to train on, and 256 others to test with, drawn
    at random, among the latter none of the former.

    x and y are one-hot, (T, B, 7), in the order of ``SYMBOLS``: a symbol, and the next. A sequence is wrong if the most
    active outputs are not those of the symbols that can come next, at any step. Solved: all 512 right.

    baseline: 1/2, the share of wrong sequences of a net that knows the grammar, but not the second symbol. Published:
    LSTM 8,440 sequences, in all trials; recurrent cascade-correlation 182,000, in half of them.

    Parameters
    ----------
    rng : int or Generator, optional
        What the strings of both sets are drawn from.
    strings : int, optional
        How many there are in each set.

    Examples
    --------
    >>> task = EmbeddedReber(rng=0)
    >>> task.test[0], task.test[0] in task.train
    ('BTBPTTVPXVVETE', False)
    >>> batch = task.batch(3, rng=0)
    >>> batch.x.shape, batch.lengths, batch.mask.sum(axis=0)
    ((12, 3, 7), array([ 9, 11, 12]), array([ 9, 11, 12]))
    """

    SYMBOLS = "BTPSXVE"
    NODES = embedded()

    def __init__(self, rng: Any = None, strings: int = 256):
        self.inputs = self.outputs = len(self.SYMBOLS)
        self.baseline, strings, rng = 0.5, whole("strings", strings, 1), np.random.default_rng(rng)
        self.tested, self.allowed = 2 * strings, 0
        self.train = [self.string(rng) for _ in range(strings)]
        self.test, known = [], set(self.train)
        while len(self.test) < strings:
            if (string := self.string(rng)) not in known:
                self.test.append(string)

    def string(self, rng: np.random.Generator) -> str:
        """One string of the grammar."""
        symbols, node = "", 0
        while ways := self.NODES[node]:
            symbol = [*ways][rng.integers(len(ways))]
            symbols, node = symbols + symbol, ways[symbol]
        return symbols

    def batch(self, size: int, rng: Any = None) -> Batch:
        """Strings to train on, drawn with replacement."""
        picked = np.random.default_rng(rng).integers(len(self.train), size=whole("size", size, 1))
        return self.batch_of([self.train[i] for i in picked])

    def batch_of(self, strings: Sequence[str]) -> Batch:
        """These strings, as a batch."""
        lengths = np.array([len(string) - 1 for string in strings])
        symbols = np.full((lengths.max() + 1, len(strings)), -1)
        for b, string in enumerate(strings):
            symbols[: len(string), b] = [self.SYMBOLS.index(symbol) for symbol in string]
        mask = np.arange(lengths.max())[:, None] < lengths
        return Batch(one_hot(np.where(mask, symbols[:-1], -1), 7), one_hot(symbols[1:], 7), lengths, mask)

    def possible(self, batch: Batch) -> np.ndarray:
        """Which symbols can come next at each step, (T, B, 7) booleans; none after the end."""
        nodes, possible = [0] * batch.x.shape[1], np.zeros(batch.x.shape, bool)
        for t, b in np.argwhere(batch.mask):
            nodes[b] = self.NODES[nodes[b]][self.SYMBOLS[batch.x[t, b].argmax()]]
            possible[t, b, [self.SYMBOLS.index(symbol) for symbol in self.NODES[nodes[b]]]] = True
        return possible

    def wrong(self, answers: Any, batch: Batch) -> np.ndarray:
        answers, possible = array_of(answers, batch), self.possible(batch)
        right = np.where(possible, answers, np.inf).min(-1) > np.where(possible, -np.inf, answers).max(-1)
        return (~right & batch.mask).any(axis=0)

    def count_wrong(self, outputs: Any, number: int | None = None, rng: Any = None, size: int = 512) -> int:
        """How many of the strings of both sets a network processes wrongly: there is nothing to draw."""
        strings = [*self.train, *self.test][: self.tested if number is None else whole("number", number, 1)]
        batches = [self.batch_of(strings[begin : begin + size]) for begin in range(0, len(strings), size)]
        return sum(int(self.wrong(batch.answers(outputs(batch)), batch).sum()) for batch in batches)


# Symbols to be remembered among others --------------------------------------------------------------------------------


class NoiseFreeLag(Task):
    """Experiment 2a: two sequences, that differ in their first symbol and their last, which are the same.

    Each comes with probability 1/2::

        (y, a_1, a_2, ..., a_{p-1}, y)        (x, a_1, a_2, ..., a_{p-1}, x)

    At every step the next symbol is asked for. x and y are one-hot over the p + 1 symbols a_1 ... a_{p-1}, x, y:
    (p, B, p + 1). A sequence is wrong if any output at any step is off by .25 or more. Solved: none of 10,000.

    baseline: .5, the least possible largest error of a net without memory at the last step. Published, for p = 100:
    LSTM 5,040 sequences, in all of 18 trials; the neural sequence chunker 32,400, in a third of them; back-propagation
    through time and RTRL never.

    Parameters
    ----------
    p : int, optional
        The lag, and the length of the inputs.

    Examples
    --------
    >>> task = NoiseFreeLag(4)
    >>> batch = task.batch(1, rng=0)
    >>> batch.x[:, 0].argmax(-1), batch.y[:, 0].argmax(-1)  # a_1 is 0, and y is 4
    (array([4, 0, 1, 2]), array([0, 1, 2, 4]))
    """

    baseline, tested, tolerance = 0.5, 10_000, 0.25

    def __init__(self, p: int = 100):
        self.p = whole("p", p, 2)
        self.inputs = self.outputs = self.p + 1

    def distractors(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """What lies between, (p - 1, B)."""
        return np.broadcast_to(np.arange(self.p - 1)[:, None], (self.p - 1, size))

    def batch(self, size: int, rng: Any = None) -> Batch:
        rng = np.random.default_rng(rng)
        size = whole("size", size, 1)
        ends = rng.integers(self.p - 1, self.p + 1, (1, size))
        hot = one_hot(np.concatenate([ends, self.distractors(size, rng), ends]), self.inputs)
        return Batch(hot[:-1], hot[1:], None, np.ones((self.p, size), bool))

    def wrong(self, answers: Any, batch: Batch) -> np.ndarray:
        return ~(abs(array_of(answers, batch) - batch.y).max(axis=-1) < self.tolerance).all(axis=0)


class RandomLag(NoiseFreeLag):
    """Experiment 2b: as 2a, but what lies between is drawn at random of a_1 ... a_{p-1}.

    Otherwise it is :class:`~tinygrad_rnn.tasks.NoiseFreeLag`. There is nothing regular in it that could be made
    shorter. At every step the next symbol is asked for, though only the last one can be known: a sequence is wrong if
    any output is off by .25 or more there. Solved: none of 10,000.

    baseline: .5, as of 2a. Published, for p = 100: LSTM 5,680 sequences, in all of 18 trials; the others never.

    Parameters
    ----------
    p : int, optional
        The lag, and the length of the inputs.

    Examples
    --------
    >>> RandomLag(6).batch(1, rng=1).x[:, 0].argmax(-1)
    array([5, 2, 3, 4, 0, 0])
    """

    def distractors(self, size: int, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(self.p - 1, size=(self.p - 1, size))

    def wrong(self, answers: Any, batch: Batch) -> np.ndarray:
        return ~(abs(array_of(answers, batch)[-1] - batch.y[-1]).max(axis=-1) < self.tolerance)


class VeryLongLag(Task):
    """Experiment 2c: one symbol to be remembered among many that mean nothing, until another one asks for it.

    The i are drawn from 1 ... p, k from the geometric distribution::

        (b, y, a_{i_1}, ..., a_{i_{q+k}}, e, y)        (b, x, a_{i_1}, ..., a_{i_{q+k}}, e, x)

    After the first q, e comes at each step with probability 1/10. What follows e, x or y, is asked for at e, the last
    input. Inputs are one-hot over a_1 ... a_p, e, b, x, y: (q + k + 3, B, p + 4); targets over x, y: (B, 2). Wrong: an
    output is off by .2 or more. Solved: none of 10,000.

    baseline: .5, the least possible largest error without memory. Published: 30,000 sequences for q = p = 50; 49,000
    for q = p = 1000; 203,000 for q = 1000, p = 50.

    Parameters
    ----------
    q : int, optional
        The least number of symbols between.
    p : int, optional
        How many kinds of them there are.

    Examples
    --------
    >>> batch = VeryLongLag(50, 50).batch(2, rng=0)
    >>> batch.x.shape, batch.lengths, batch.y
    ((62, 2, 54), array([59, 62]), array([[0., 1.],
           [1., 0.]], dtype=float32))
    """

    outputs, baseline, tested, tolerance = 2, 0.5, 10_000, 0.2

    def __init__(self, q: int = 50, p: int = 50):
        self.q, self.p = whole("q", q, 1), whole("p", p, 1)
        self.inputs = self.p + 4

    def batch(self, size: int, rng: Any = None) -> Batch:
        rng, size = np.random.default_rng(rng), whole("size", size, 1)
        lengths = self.q + rng.geometric(0.1, size) + 2
        symbols = rng.integers(self.p, size=(lengths.max(), size))
        classes = rng.integers(2, size=size)
        symbols[0], symbols[1] = self.p + 1, self.p + 2 + classes
        symbols[lengths - 1, np.arange(size)] = self.p
        return Batch(one_hot(cut(symbols, lengths), self.inputs), one_hot(classes, 2), lengths)

    def wrong(self, answers: Any, batch: Batch) -> np.ndarray:
        return ~(abs(array_of(answers, batch) - batch.y).max(axis=-1) < self.tolerance)


class TwoSequence(Task):
    """Experiment 3: which of two classes a sequence belongs to is said by its first N numbers; noise follows.

    Sequences have T to T + T/10 steps; the classes are as likely. Of class 1, the first N numbers are 1, of class 2,
    -1; all others are normal, with mean 0 and variance .2. x is (time, B, 1), y (B, 1), asked for at the end.

    =======  ========================  ===============================  ==========================================
    variant  targets of classes 1, 2   a sequence is wrong if the       published for T = 100, N = 3 (102 weights)
                                       answer is off by at least
    =======  ========================  ===============================  ==========================================
    "3a"     1, 0                      .2                               27,380 sequences; .000195 wrong
    "3b"     1, 0; and the first N     .2                               41,740 sequences; .00828 wrong
             numbers have noise, too,
             of variance .2
    "3c"     .2, .8, with noise of     .1, from the target without      269,650 sequences; .00558 wrong; mean
             variance .1               noise                            distance from that target .014
    =======  ========================  ===============================  ==========================================

    (Bengio et al., 1994, had sequences of T/2 to T steps. "3a" is solved faster by guessing weights.) baseline: the
    least possible mean error without memory, that of always giving the middle: .5 or, from what is free of noise, .3.

    Parameters
    ----------
    T : int, optional
        The least length.
    N : int, optional
        How many numbers say the class.
    variant : {"3a", "3b", "3c"}, optional
        See the table.

    Raises
    ------
    ValueError
        There is no such variant, or a number is too small.

    Examples
    --------
    >>> task = TwoSequence(100)
    >>> batch = task.batch(2, rng=0)
    >>> batch.x[:4, :, 0].round(1), batch.y[:, 0], batch.lengths
    (array([[-1. ,  1. ],
           [-1. ,  1. ],
           [-1. ,  1. ],
           [-0.3, -0.6]], dtype=float32), array([0., 1.], dtype=float32), array([109, 107]))
    """

    inputs = outputs = 1
    VARIANTS: ClassVar[dict] = {"3a": (1.0, 0.0, 0.2), "3b": (1.0, 0.0, 0.2), "3c": (0.2, 0.8, 0.1)}

    def __init__(self, T: int = 100, N: int = 3, variant: str = "3a"):
        self.N = whole("N", N, 1)
        self.T = whole("T", T, self.N)
        if variant not in self.VARIANTS:
            raise ValueError(f"variant: expected one of {', '.join(map(repr, self.VARIANTS))}, got {variant!r}")
        self.variant = variant
        *targets, self.tolerance = self.VARIANTS[variant]
        self.targets = np.array(targets, np.float32)
        self.baseline = float(abs(np.diff(self.targets))[0] / 2)

    def batch(self, size: int, rng: Any = None) -> Batch:
        rng, size = np.random.default_rng(rng), whole("size", size, 1)
        lengths = rng.integers(self.T, self.T + self.T // 10 + 1, size)
        second = rng.integers(2, size=size)
        x = rng.normal(0, math.sqrt(0.2), (lengths.max(), size))
        x[: self.N] = 1 - 2 * second + (x[: self.N] if self.variant == "3b" else 0)
        y = self.targets[second] + (rng.normal(0, math.sqrt(0.1), size) if self.variant == "3c" else 0)
        x = np.where(np.arange(len(x))[:, None] < lengths, x, 0)
        return Batch(x[..., None].astype(np.float32), y[:, None].astype(np.float32), lengths)

    def distances(self, answers: Any, batch: Batch) -> np.ndarray:
        """How far the answers are from the targets without noise, (B,)."""
        return abs(array_of(answers, batch)[:, 0] - self.targets[(batch.x[: self.N, :, 0].sum(axis=0) < 0).astype(int)])

    def wrong(self, answers: Any, batch: Batch) -> np.ndarray:
        if self.variant == "3b":  # a class cannot be told for certain from what is noisy
            return ~(abs(array_of(answers, batch) - batch.y)[:, 0] < self.tolerance)
        return ~(self.distances(answers, batch) < self.tolerance)


class Adding(Task):
    """Experiment 4: the sum of two numbers, which are marked.

    A sequence has T to T + T/10 steps, each a pair: a number from [-1, 1], and a mark. Marked by 1 are two: one of the
    first ten; then one of the first T/2 - 1 of the others. The first pair and the last are marked by -1; the others by
    0. (If the first is one of the two, it keeps its -1, and its number is 0.) At the end, .5 + (X_1 + X_2) / 4 is asked
    for. x is (time, B, 2), y (B, 1). A sequence is wrong if the answer is off by .04 or more; solved: at most 3 of
    2560.

    baseline: the mean squared error of always saying .5. That is 2/3 / 16 = 1/24, with the few zeros a little less.
    Published, for T = 100, 500, 1000: 74,000, 209,000, 853,000 sequences, with 1, 0 and 1 wrong (93 weights).

    Parameters
    ----------
    T : int, optional
        The least length.

    Examples
    --------
    >>> batch = Adding(100).batch(2, rng=0)
    >>> marked = batch.x[..., 1] == 1
    >>> marked.sum(axis=0), batch.lengths
    (array([2, 2]), array([109, 107]))
    >>> np.allclose(batch.y[:, 0], 0.5 + np.where(marked, batch.x[..., 0], 0).sum(axis=0) / 4)
    True
    """

    inputs, outputs, allowed, tolerance = 2, 1, 3, 0.04
    least, neutral = -1.0, 0.0  # of the numbers; and that which leaves the result as it is

    def __init__(self, T: int = 100):
        self.T = whole("T", T, 22)
        first = self.at_first  # the variance of X_1 + X_2: they are uniform, or 0 if at the first step
        self.baseline = (2 - first) / 3 / 16

    @property
    def at_first(self) -> float:
        """How often one of the marks falls upon the first pair."""
        return 1 / 10 + 9 / 10 / (self.T // 2 - 1)

    def target(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """What is asked for, of the two numbers."""
        return 0.5 + (a + b) / 4

    def batch(self, size: int, rng: Any = None) -> Batch:
        rng, size = np.random.default_rng(rng), whole("size", size, 1)
        lengths = rng.integers(self.T, self.T + self.T // 10 + 1, size)
        x, each = np.zeros((lengths.max(), size, 2)), np.arange(size)
        numbers, marks = x[..., 0], x[..., 1]
        numbers[:] = cut(rng.uniform(self.least, 1, numbers.shape), lengths, 0)
        i = rng.integers(10, size=size)
        j = rng.integers(self.T // 2 - 1, size=size)
        j += j >= i  # counted among the others
        marks[i, each] = marks[j, each] = 1
        numbers[0, (i == 0) | (j == 0)] = self.neutral
        marks[0] = marks[lengths - 1, each] = -1
        y = self.target(numbers[i, each], numbers[j, each])
        return Batch(x.astype(np.float32), y[:, None].astype(np.float32), lengths)

    def wrong(self, answers: Any, batch: Batch) -> np.ndarray:
        return ~(abs(array_of(answers, batch) - batch.y)[:, 0] < self.tolerance)


class Multiplication(Adding):
    """Experiment 5: as experiment 4, but numbers are from [0, 1], and their product X_1 · X_2 is asked for.

    Otherwise it is :class:`~tinygrad_rnn.tasks.Adding`. (If the first pair is one of the two, its number is 1.)
    Measured twice in the paper: when fewer than 140 of the last 2000 sequences of the training were wrong, and when
    fewer than 13 were; here, as ``wrong_of_last``, it is 13. Solved: at most 17 of 2560, the same share.

    baseline: the mean squared error of always saying the mean; 7/144 = 1/9 - 1/16 for two numbers. Published, for T =
    100: 482,000 sequences with 139 of 2560 wrong (140), and 1,273,000 with 14 (13).

    Parameters
    ----------
    T : int, optional
        The least length.

    Examples
    --------
    >>> task = Multiplication(100)
    >>> batch = task.batch(1, rng=0)
    >>> bool(np.isclose(batch.y[0, 0], batch.x[:, 0, 0][batch.x[:, 0, 1] == 1].prod()))
    True
    """

    allowed, wrong_of_last = 17, 13
    least, neutral = 0.0, 1.0

    def __init__(self, T: int = 100):
        super().__init__(T)
        first = self.at_first
        mean = (1 - first) / 4 + first / 2
        self.baseline = (1 - first) / 9 + first / 3 - mean**2

    def target(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a * b


class TemporalOrder(Task):
    """Experiment 6: the order in which X and Y came, among other symbols.

    A sequence has 100 to 110 steps; it begins with E, ends with B, and has symbols a, b, c, d at random between; but X
    or Y at random at a step of 10 to 20, and at one of 50 to 60 (6a: ``signals=2``); or at 10 to 20, 33 to 43 and 66 to
    76 (6b: ``signals=3``). Steps are counted from 0. Which of the 4 (8) classes it is is asked for at the end: XX, XY,
    YX, YY. Inputs are one-hot over ``SYMBOLS``, targets over the classes: (T, B, 8), (B, 4 or 8). Wrong: an output is
    off by .3 or more; solved: at most 3 of 2560.

    baseline: the share of wrong answers of a guess, 3/4 or 7/8. Published: 6a 31,390 sequences, 1 wrong (156 weights);
    6b 571,100 and 2 (308).

    Parameters
    ----------
    signals : {2, 3}, optional
        How many symbols are to be remembered.

    Raises
    ------
    ValueError
        There is no experiment with so many.

    Examples
    --------
    >>> batch = TemporalOrder(2).batch(2, rng=0)
    >>> ["".join(TemporalOrder.SYMBOLS[i] for i in batch.x[:, b].argmax(-1) if i > 5) for b in range(2)]
    ['XY', 'YY']
    >>> batch.y.argmax(-1)
    array([1, 3])
    """

    SYMBOLS = "abcdEBXY"
    PLACES: ClassVar[dict] = {2: ((10, 20), (50, 60)), 3: ((10, 20), (33, 43), (66, 76))}

    inputs, allowed, tolerance = 8, 3, 0.3

    def __init__(self, signals: int = 2):
        if signals not in self.PLACES:
            raise ValueError(f"signals: expected 2 (experiment 6a) or 3 (6b), got {signals!r}")
        self.signals, self.outputs = int(signals), 2**signals
        self.baseline = 1 - 1 / self.outputs

    def batch(self, size: int, rng: Any = None) -> Batch:
        rng, size = np.random.default_rng(rng), whole("size", size, 1)
        lengths, each = rng.integers(100, 111, size), np.arange(size)
        symbols = rng.integers(4, size=(lengths.max(), size))
        classes = np.zeros(size, int)
        for first, last in self.PLACES[self.signals]:
            signal = rng.integers(2, size=size)
            symbols[rng.integers(first, last + 1, size), each] = 6 + signal
            classes = 2 * classes + signal
        symbols[0], symbols[lengths - 1, each] = 4, 5
        return Batch(one_hot(cut(symbols, lengths), 8), one_hot(classes, self.outputs), lengths)

    def wrong(self, answers: Any, batch: Batch) -> np.ndarray:
        return ~(abs(array_of(answers, batch) - batch.y).max(axis=-1) < self.tolerance)


class PascanuTemporalOrder(Task):
    """Temporal order as Pascanu et al. (2013) have it: sequences of one length, six symbols, a guess is enough.

    T symbols c, d, e, f at random; but A or B at random at a step of T/10 to 2T/10, and at one of 4T/10 to 5T/10. Asked
    for at the end: AA, AB, BA or BB. Inputs are one-hot over ``SYMBOLS``, (T, B, 6); targets are numbers of classes,
    (B,); answers are scores, (B, 4). Wrong: the greatest score is not that of the class. Solved: less than 1 % of
    10,000.

    baseline: the share of wrong answers of a guess, 3/4. Published (50 tanh units; 5 trials for each T = 50 ... 200):
    with clipped gradients and the regulariser Ω all trials are solved; with clipping alone, some, fewer for greater T;
    with plain gradients the fewest. ("On the difficulty of training recurrent neural networks", ICML 2013, section
    4.1.)

    Parameters
    ----------
    T : int or (int, int), optional
        The length; or (least, greatest), of which one is drawn for each batch.

    Raises
    ------
    ValueError
        It is neither a length nor two.

    Examples
    --------
    >>> batch = PascanuTemporalOrder(50).batch(3, rng=0)
    >>> batch.x.shape, batch.y
    ((50, 3, 6), array([1, 1, 2]))
    """

    SYMBOLS = "cdefAB"

    inputs, outputs, baseline, tested, allowed = 6, 4, 0.75, 10_000, 99

    def __init__(self, T: int | Sequence[int] = 50):
        self.T = T
        lengths = T if isinstance(T, (tuple, list)) else (T, T)
        self.lengths = tuple(whole("T", length, 10) for length in lengths)
        if len(lengths) != 2 or lengths[0] > lengths[1]:
            raise ValueError(f"T: expected a length, or two, (least, greatest), got {T!r}")

    def batch(self, size: int, rng: Any = None) -> Batch:
        rng, size = np.random.default_rng(rng), whole("size", size, 1)
        T = int(rng.integers(self.lengths[0], self.lengths[1] + 1))
        symbols, classes = rng.integers(4, size=(T, size)), np.zeros(size, int)
        for tenths in (1, 4):
            signal = rng.integers(2, size=size)
            symbols[rng.integers(tenths * T // 10, (tenths + 1) * T // 10 + 1, size), np.arange(size)] = 4 + signal
            classes = 2 * classes + signal
        return Batch(one_hot(symbols, 6), classes)

    def wrong(self, answers: Any, batch: Batch) -> np.ndarray:
        return ~greatest(answers, batch, self.outputs)


class CopyMemory(Task):
    """Copy memory: ten symbols, a long pause, and then they are to be said again, in their order.

    Ten of the symbols 1 ... 8 at random; T - 1 blanks, 0; one 9, which asks; ten blanks: T + 20 steps. The targets are
    0 for the first T + 10 steps, then the ten symbols. Inputs are one-hot over 0 ... 9, (T + 20, B, 10); targets
    numbers of classes, (T + 20, B); answers scores of 0 ... 8, (T + 20, B, 9). Wrong: a symbol of the last ten is not
    that with the greatest score.

    baseline: the mean cross-entropy, in nats, of saying 0, and then guessing: 10 ln 8 / (T + 20), .2971 for T = 50.
    (Task: Hochreiter and Schmidhuber, 1997, in spirit; in this form Arjovsky et al., "Unitary evolution recurrent
    neural networks", 2016, where LSTM and tanh networks stay near the baseline for T ≥ 100.)

    Parameters
    ----------
    T : int, optional
        The length of the pause.

    Examples
    --------
    >>> task = CopyMemory(50)
    >>> batch = task.batch(1, rng=0)
    >>> batch.x[:10, 0].argmax(-1), batch.y[-11:, 0], round(task.baseline, 4)
    (array([7, 6, 5, 3, 3, 1, 1, 1, 2, 7]), array([0, 7, 6, 5, 3, 3, 1, 1, 1, 2, 7]), 0.2971)
    """

    inputs, outputs = 10, 9

    def __init__(self, T: int = 50):
        self.T = whole("T", T, 1)
        self.baseline = 10 * math.log(8) / (self.T + 20)

    def batch(self, size: int, rng: Any = None) -> Batch:
        size = whole("size", size, 1)
        said = np.random.default_rng(rng).integers(1, 9, (10, size))
        x, y = np.zeros((2, self.T + 20, size), int)
        x[:10] = y[-10:] = said
        x[self.T + 9] = 9
        return Batch(one_hot(x, 10), y, None, np.ones(y.shape, bool))

    def wrong(self, answers: Any, batch: Batch) -> np.ndarray:
        return ~greatest(answers, batch, self.outputs)[-10:].all(axis=0)


# Helpers --------------------------------------------------------------------------------------------------------------


def one_hot(numbers: np.ndarray, classes: int) -> np.ndarray:
    """1 at each number, along a new last axis; nothing where it is below 0."""
    return (numbers[..., None] == np.arange(classes)).astype(np.float32)


def cut(values: np.ndarray, lengths: np.ndarray, padding: Any = -1) -> np.ndarray:
    """The values (time, batch), and padding after the end of each sequence."""
    return np.where(np.arange(len(values))[:, None] < lengths, values, padding)


def greatest(answers: Any, batch: Batch, classes: int) -> np.ndarray:
    """Where the score of the right class is the greatest: that of each other one is below it. (NaN never is.)"""
    answers = np.asarray(bare(answers))
    if answers.shape != (*batch.y.shape, classes):
        raise ValueError(f"answers: expected a score for each class, {(*batch.y.shape, classes)}, got "
                         f"{described(answers)}")  # fmt: skip
    right = batch.y[..., None] == np.arange(classes)
    return answers[right].reshape(batch.y.shape) > np.where(right, -np.inf, answers).max(axis=-1)
