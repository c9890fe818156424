"""Wrappers of cells: cells around any cell, which give it more paths through time or depth, noise, or normalisation.

A wrapper is a cell, so wrappers nest, in any order. All that one remembers is in its state, which contains the state of
the cell within: masks, queues. Start from ``wrapper.initial_state(x)``, or from None.

Some wrappers change what a cell does with its state (Zoneout, say). They mean the state of the *innermost* cell, the
one that wraps no other, wherever they stand: a queue of another wrapper around it stays a queue, and a mask a mask. Of
that state they mean the floating-point tensors; integers in it, such as a clock, are left alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np

from .. import trees
from ..arrays import has_gradient
from ..errors import described
from ..modes import no_grad
from ..ops import concatenate, sigmoid, where
from ..tensor import Tensor, bare
from .cells import AffineCell, Cell
from .dropout import draw, mask, probability
from .init import uniform
from .linear import linear
from .module import Parameter
from .norm import LayerNorm
from .residual import alike, dtype_of, transform_gate
from .watch import unwatched


class Wrapper(Cell):
    """A cell around another one, ``self.cell``; as it is, it changes nothing: a subclass does, in ``step``.

    (What is no subclass wraps nothing: a cell that is made of others is a cell, and its state its own.) If it remembers
    something itself, it overrides ``initial_state``, too, and its state is a tuple with the state of the cell within.
    What is random in it is drawn from ``self.rng``, while ``self.training``.

    Parameters
    ----------
    cell : Cell
        The cell within.

    Raises
    ------
    TypeError
        It is no cell.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> class Summed(Wrapper):
    ...     '''Its output is the sum of the cell's outputs so far.'''
    ...     def initial_state(self, x):
    ...         return self.cell.initial_state(x), 0 * self.cell.initial_state(x)[0]
    ...     def step(self, x, state):
    ...         inner, total = state
    ...         y, inner = self.cell.step(x, inner)
    ...         return total + y, (inner, total + y)
    >>> ys, state = nn.scan(Summed(nn.LSTMCell(3, 4, rng=0)), np.ones((7, 2, 3), np.float32))
    >>> ys.shape
    (7, 2, 4)
    """

    is_home = False  # whether its initial_state says what the innermost cell starts from

    def __init__(self, cell: Cell):
        if not isinstance(cell, Cell):
            raise TypeError(f"{type(self).__name__}: cell: expected a Cell, got {described(cell)}")
        self.cell, self.input_size = cell, cell.input_size

    def initial_state(self, x: Any) -> Any:
        """That of the cell within."""
        return self.cell.initial_state(x)

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step of the cell within."""
        return self.cell.step(x, state)


# More paths through time ---------------------------------------------------------------------------------------------


class TimeSkip(Wrapper):
    """A connection over time (Lin et al., 1996): what was ``skip`` steps ago is seen next to what was just before.

    One step is::

        y, s_t = step(x_t, s_{t-1} + W s_{t-skip})

    So from a step to one that is n · skip later, a gradient also has a path through n steps only, not n · skip. Each
    tensor of the state has a W of its own, in ``weights``. Before the first step is what the cell starts from. The
    state is (the cell's, the skip - 1 states before it).

    Parameters
    ----------
    cell : Cell
        Any cell. Its ``state_size`` says how large the W are.
    skip : int
        How many steps, at least 2.
    rng : int or Generator, optional
        For the weights: uniform within ±1/√size.
    dtype : dtype, optional
        Of the weights: by default that of the cell's.

    Raises
    ------
    ValueError
        ``skip`` is below 2.
    TypeError
        ``cell`` does not say its ``state_size``.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> cell = TimeSkip(nn.LSTMCell(3, 4, rng=0), skip=10, rng=1)
    >>> [p.shape for p in cell.weights]
    [(4, 4), (4, 4)]
    """

    def __init__(self, cell: Cell, skip: int, *, rng: Any = None, dtype: Any = None):
        super().__init__(cell)
        if not isinstance(skip, (int, np.integer)) or skip < 2:
            raise ValueError(f"TimeSkip: skip: expected at least 2 steps, got {skip!r}")
        self.skip, rng, dtype = skip, np.random.default_rng(rng), dtype_of(cell, dtype)
        self.weights = trees.map(
            lambda n: Parameter(uniform((n, n), max(n, 1) ** -0.5, rng, dtype)), state_size(cell, "TimeSkip")
        )

    def initial_state(self, x: Any) -> Any:
        """That of the cell within, and what it starts from, for each of the steps before it."""
        return self.cell.initial_state(x), (home(self.cell).initial_state(x),) * (self.skip - 1)

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step of the cell within, which reads the sum of two states."""
        inner, past = state
        read = []

        def with_past(cell: Cell, x: Any, s: Any) -> tuple[Any, Any]:
            read.append(s)
            return cell.step(x, each(lambda s, before, weight: s + linear(before, weight), s, past[-1], self.weights))

        y, inner = around(self.cell, with_past, JOINING).step(x, inner)
        return y, (inner, (read[0], *past[:-1]))

    def extra_repr(self) -> str:
        """Its setting."""
        return f"skip={self.skip}"


class Dilated(Wrapper):
    """The state comes from ``dilation`` steps ago, instead of from the last one (Chang et al., 2017).

    One step is::

        y, s_t = step(x_t, s_{t-dilation})

    So within T steps a gradient passes T / dilation steps of the cell. It is as if the sequence was dealt out to
    ``dilation`` cells, which share their weights, and know nothing of each other; a layer above with another dilation
    (1, 2, 4, ...) brings them together. The state is a tuple of the last ``dilation`` states, the newest first.

    Parameters
    ----------
    cell : Cell
        Any cell.
    dilation : int
        How many steps, at least 1.

    Raises
    ------
    ValueError
        ``dilation`` is below 1.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> cells = [Dilated(nn.GRUCell(3, 3, rng=i), dilation=2**i) for i in range(3)]
    >>> ys = np.ones((7, 2, 3), np.float32)
    >>> for cell in cells:
    ...     ys, last = nn.scan(cell, ys)
    >>> ys.shape, len(last)
    ((7, 2, 3), 4)
    """

    def __init__(self, cell: Cell, dilation: int):
        super().__init__(cell)
        if not isinstance(dilation, (int, np.integer)) or dilation < 1:
            raise ValueError(f"Dilated: dilation: expected at least 1 step, got {dilation!r}")
        self.dilation = dilation

    def initial_state(self, x: Any) -> Any:
        """What the cell within starts from, as often as steps are skipped."""
        return (self.cell.initial_state(x),) * self.dilation

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step of the cell within, from the oldest of the states."""
        y, new = self.cell.step(x, state[-1])
        return y, (new, *state[:-1])

    def extra_repr(self) -> str:
        """Its setting."""
        return f"dilation={self.dilation}"


# Paths past the cell, at each step -----------------------------------------------------------------------------------


class Residual(Wrapper):
    """The input is added to the cell's output, y' = x + y, which must be of one size (He et al., 2016).

    Parameters
    ----------
    cell : Cell
        Any cell whose output is of the size of its input.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> cell, x = nn.GRUCell(3, 3, rng=0), np.ones((2, 3), np.float32)
    >>> np.array_equal(Residual(cell)(x)[0].data, x + cell(x)[0].data)
    True
    """

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step of the cell within, its output added to x."""
        y, state = self.cell.step(x, state)
        return x + alike(y, x, "Residual"), state


class Highway(Wrapper):
    """A learned gate mixes the cell's output with the input: y' = T * y + (1 - T) * x (Srivastava et al., 2015).

    T = σ(W x + b), where ``transform`` is the affine map. The sizes of x and y must agree.

    Parameters
    ----------
    cell : Cell
        Any cell.
    bias : float, optional
        What b is at first. It is negative, so that at first most of the input passes.
    size : int, optional
        Of x and y; by default the cell's ``input_size``.
    rng : int or Generator, optional
        For W: uniform within ±1/√size.
    dtype : dtype, optional
        Of W and b: by default that of the cell's weights.

    Raises
    ------
    ValueError
        Neither ``size`` nor the cell says how large x is.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> closed = Highway(nn.GRUCell(2, 2, rng=0), bias=-1e9)
    >>> closed(np.array([[0.5, 100.0]], np.float32))[0].data
    array([[  0.5, 100. ]], dtype=float32)
    """

    def __init__(
        self, cell: Cell, bias: float = -1.0, size: int | None = None, *, rng: Any = None, dtype: Any = None
    ):  # fmt: skip
        super().__init__(cell)
        size = cell.input_size if size is None else size
        if size is None:
            raise ValueError(f"Highway: size: {type(cell).__name__} does not say its input_size: pass size, of x and y")
        self.transform = transform_gate(cell, size, bias, rng, dtype)

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step of the cell within, its output mixed with x."""
        y, state = self.cell.step(x, state)
        return x + sigmoid(self.transform(x)) * (alike(y, x, "Highway") - x), state


class Dense(Wrapper):
    """The output is the input and the cell's output, concatenated: y' = [x, y] (Huang et al., 2017).

    Parameters
    ----------
    cell : Cell
        Any cell.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> y, h = Dense(nn.GRUCell(3, 4, rng=0))(np.ones((2, 3), np.float32))
    >>> y.shape, h.shape
    ((2, 7), (2, 4))
    """

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step of the cell within, x before its output."""
        y, state = self.cell.step(x, state)
        return concatenate([x, y], axis=-1), state


# Noise ---------------------------------------------------------------------------------------------------------------


class StateNoise(Wrapper):
    """What :class:`Zoneout` and :class:`RecurrentDropout` have in common: the new state is mixed with the old one."""

    def __init__(self, cell: Cell, p: Any, *, rng: Any = None):
        super().__init__(cell)
        self.p = trees.map(lambda p: probability(f"{type(self).__name__}: p", p, self.certain), p)
        self.rng = np.random.default_rng(rng)

    certain = False  # whether p = 1 makes sense

    def mixed(self, old: Any, new: Any, p: float) -> Any:
        """A tensor of the next state, from the old and the new one."""
        raise NotImplementedError

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step of the cell within, its new state mixed with the old one."""
        return around(self.cell, self._mix, WRITING).step(x, state)

    def _mix(self, cell: Cell, x: Any, old: Any) -> tuple[Any, Any]:
        y, new = cell.step(x, old)
        p = for_each(self.p, new, f"{type(self).__name__}: p")
        mixed = each(lambda new, old, p: self.mixed(old, new, p) if p else new, new, old, p)
        parts = zip(trees.flatten(new)[0], trees.flatten(mixed)[0])
        return next((after for before, after in parts if before is y), y), mixed

    def extra_repr(self) -> str:
        """Its probability."""
        return f"p={self.p}"


class Zoneout(StateNoise):
    """While training, each number of the state keeps its last value with probability p (Krueger et al., 2017).

    Evaluating, it is the expectation, p · old + (1 - p) · new. Where the output is a tensor of the state, as h is of
    most cells, it is the one that is kept.

    Parameters
    ----------
    cell : Cell
        Any cell.
    p : float or tree of float
        A probability, from 0 to 1, or a tree of them like the state, as (p_h, p_c) for an LSTM.
    rng : int or Generator, optional
        For what is drawn at each step.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> cell = Zoneout(nn.LSTMCell(3, 4, rng=0), p=(0.05, 0.5), rng=1)
    >>> h, c = np.full((2, 1, 4), 5, np.float32)
    >>> cell(np.ones((1, 3), np.float32), (h, c))[1][1].data.round(1)  # of c, three numbers are held
    array([[5. , 5. , 3.8, 5. ]], dtype=float32)
    """

    certain = True

    def mixed(self, old: Any, new: Any, p: float) -> Any:
        """A tensor of the next state: some numbers of the old one, the others of the new."""
        return where(draw(new, p, self.rng), old, new) if self.training else new + p * (old - new)


class RecurrentDropout(StateNoise):
    """While training, each number's change from the old state to the new is dropped with probability p.

    One step is::

        s' = s + m * (step(x, s) - s), where m is 0 with probability p, and 1 / (1 - p) otherwise

    Dropped is what would be written, so nothing that is remembered is lost, however long: the idea of Semeniuta et al.
    (2016), who drop the candidate of a gated cell, i * m * g in an LSTM. The whole change takes its place here, as any
    cell has one. Evaluating, the cell is as it is (in :class:`~tinygrad_rnn.nn.Zoneout`, its changes are the smaller
    for it). Where the output is a tensor of the state, it is the changed one.

    Parameters
    ----------
    cell : Cell
        Any cell.
    p : float or tree of float
        A probability, from 0 to below 1, or a tree of them like the state, as (p_h, p_c) for an LSTM.
    rng : int or Generator, optional
        For what is drawn at each step.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> cell = RecurrentDropout(nn.GRUCell(3, 4, rng=0), p=0.5, rng=1)
    >>> h = np.full((1, 4), 5, np.float32)
    >>> cell(np.ones((1, 3), np.float32), h)[0].data == 5  # of one number the change is dropped
    array([[ True, False, False, False]])
    """

    def mixed(self, old: Any, new: Any, p: float) -> Any:
        """A tensor of the next state: the old one, and what is left of its change."""
        return old + mask(new, p, self.rng) * (new - old) if self.training else new


class VariationalDropout(Wrapper):
    """Dropout with the same mask at every step of a sequence (Gal and Ghahramani, 2016).

    Each number is 0 with probability p, and divided by 1 - p otherwise. The masks are drawn by ``initial_state``, for
    each sequence of the batch its own, and carried in the state, which is (the cell's, the masks in a dict);
    evaluating, they are not used.

    Parameters
    ----------
    cell : Cell
        Any cell.
    input : float, optional
        The probability for the numbers of x.
    state : float or tree of float, optional
        The probability for those of h, where h is multiplied by the recurrent weights. That is the paper's, and for a
        cell that computes this by ``of_state``, as RNNCell, LSTMCell and GRUCell do. Of any other cell, all tensors of
        the state, as its step reads them; or, of any cell, a tree of probabilities like the state. A memory that is
        read like that at each step, such as c of an LSTM, is lost in some places, and grows in the others.
    output : float, optional
        The probability for the numbers of y.
    rng : int or Generator, optional
        For the masks.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> cell = VariationalDropout(nn.LSTMCell(3, 4, rng=0), input=0.2, state=0.5, rng=1)
    >>> ys, (inner, masks) = nn.scan(cell, np.ones((7, 1, 3), np.float32))
    >>> masks["input"].data, masks["state"].data, masks["output"]
    (array([[0.  , 0.  , 1.25]], dtype=float32), array([[0., 2., 2., 2.]], dtype=float32), None)
    """

    def __init__(self, cell: Cell, input: float = 0.0, state: Any = 0.0, output: float = 0.0, *, rng: Any = None):
        super().__init__(cell)
        self.input = probability("VariationalDropout: input", input)
        self.state = trees.map(lambda p: probability("VariationalDropout: state", p), state)
        self.output = probability("VariationalDropout: output", output)
        self.rng = np.random.default_rng(rng)
        self.fed_back = map_of_state(innermost(cell))[:1] if state and isinstance(state, Real) else ()

    def initial_state(self, x: Any) -> Any:
        """That of the cell within, and new masks; ones, if it is not trained."""
        inner, x = self.cell.initial_state(x), bare(x)

        def drawn(like: Any, p: float) -> Any:
            return (mask(like, p, self.rng) if self.training else Tensor(np.ones_like(like))) if p else None

        def of_size(size: int) -> Any:
            return np.zeros_like(x, shape=(*x.shape[:-1], size))

        state = None
        if self.state:
            state = of_size(*self.fed_back) if self.fed_back else innermost(self.cell).initial_state(x)
            p = for_each(self.state, state, "VariationalDropout: state")
            state = trees.map(lambda s, p: drawn(bare(s), p if has_gradient(s.dtype) else 0), state, p)
        output = drawn(of_size(self._output_size(x)), self.output) if self.output else None
        return inner, {"input": drawn(x, self.input), "state": state, "output": output}

    def _output_size(self, x: Any) -> int:
        """That of what a step gives, for no sequences at all."""
        with no_grad(), unwatched():
            none = np.zeros_like(x, shape=(0, x.shape[-1]))
            return self.cell.step(none, self.cell.initial_state(none))[0].shape[-1]

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step of the cell within, behind the masks."""
        inner, masks = state
        if not self.training:
            y, inner = self.cell.step(x, inner)
            return y, (inner, masks)

        cell = self.cell
        if self.fed_back:
            cell = within(cell, lambda c: with_maps(c, of_state=lambda h: c.of_state(times(h, masks["state"]))))
        elif self.state:
            cell = around(cell, lambda c, x, s: c.step(x, each(times, s, masks["state"])), READING)
        y, inner = cell.step(times(x, masks["input"]), inner)
        return times(y, masks["output"]), (inner, masks)

    def extra_repr(self) -> str:
        """Its probabilities."""
        return f"input={self.input}, state={self.state}, output={self.output}"


# Normalisation -------------------------------------------------------------------------------------------------------


class LayerNormalized(Wrapper):
    """Layer normalisation within a recurrence (Ba et al., 2016), so that the state's size settles.

    A cell that computes by two maps, ``of_input`` and ``of_state`` (as RNNCell, LSTMCell and GRUCell do) has the
    results of both normalised, all gates together: LN(W_ih x + b_ih) + LN(W_hh h + b_hh) takes the place of their sum,
    as in the paper. (Its normalisation of c, before the output, is not part of this.) Of any other cell, each tensor of
    the state is normalised as the step reads it: step(x, LN(s)). Each has a weight and a bias of its own, in
    ``of_input`` and ``of_state``.

    Parameters
    ----------
    cell : Cell
        Any cell.
    eps : float, optional
        As of :class:`~tinygrad_rnn.nn.LayerNorm`.
    dtype : dtype, optional
        Of the normalisations' weights, by default that of the cell's.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> cell = LayerNormalized(nn.LSTMCell(3, 4, rng=0))
    >>> cell.of_input, cell.of_state
    (LayerNorm((16,), eps=1e-05), LayerNorm((16,), eps=1e-05))
    """

    def __init__(self, cell: Cell, eps: float = 1e-5, *, dtype: Any = None):
        super().__init__(cell)
        inner, dtype = innermost(cell), dtype_of(cell, dtype)
        sizes = map_of_state(inner)[1:]
        self.of_input = LayerNorm(inner.weight_ih.shape[0], eps, dtype=dtype) if sizes else None
        self.of_state = trees.map(
            lambda n: LayerNorm(n, eps, dtype=dtype), *sizes or [state_size(cell, "LayerNormalized")]
        )

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step of the cell within, its maps, or what it reads, normalised."""
        if self.of_input is None:
            return around(self.cell, self._read_normalized, READING).step(x, state)
        return within(self.cell, self._normalized).step(x, state)

    def _normalized(self, cell: AffineCell) -> AffineCell:
        return with_maps(cell, lambda x: self.of_input(cell.of_input(x)), lambda h: self.of_state(cell.of_state(h)))

    def _read_normalized(self, cell: Cell, x: Any, state: Any) -> tuple[Any, Any]:
        return cell.step(x, each(lambda s, norm: norm(s), state, self.of_state))


# How they reach the innermost cell -----------------------------------------------------------------------------------


def innermost(cell: Cell) -> Cell:
    """The cell that wraps no other."""
    while isinstance(cell, Wrapper):
        cell = cell.cell
    return cell


def home(cell: Cell) -> Cell:
    """The innermost cell; or the wrapper that says what it starts from."""
    while isinstance(cell, Wrapper) and not cell.is_home:
        cell = cell.cell
    return cell


WRITING, JOINING, READING = range(3)  # what is done to a state, from the outside to the inside; see around()


class Around(Wrapper):
    """For one step: a wrapper that is a function, step(cell, x, state)."""

    def __init__(self, cell: Cell, function: Callable, level: int):
        self.cell, self.function, self.level = cell, function, level

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        return self.function(self.cell, x, state)


def around(cell: Cell, step: Callable, level: int) -> Cell:
    """The same cell, where step(innermost cell, x, its state) takes the place of the innermost cell's step.

    Where several wrappers do so, each acts around those within it, but first by its level: what the cell reads is what
    has been joined; and what is written depends on the old state itself, not on how it was read.
    """
    return within(cell, lambda inner: Around(inner, step, level), level)


def within(cell: Cell, change: Callable[[Cell], Cell], level: int = READING) -> Cell:
    """The same wrappers (copies, for one step) around change(the innermost cell, or what is of a deeper level)."""
    if not isinstance(cell, Wrapper) or (isinstance(cell, Around) and cell.level > level):
        return change(cell)
    outer = copy.copy(cell)
    outer.cell = within(cell.cell, change, level)
    return outer


def with_maps(cell: AffineCell, of_input: Callable | None = None, of_state: Callable | None = None) -> AffineCell:
    """For one step: the same cell, of the same weights, with other maps."""
    other = copy.copy(cell)
    other.watch = cell.watch  # it is still the cell that somebody watches
    other.of_input, other.of_state = of_input or cell.of_input, of_state or cell.of_state
    return other


def map_of_state(cell: Cell) -> tuple:
    """How many numbers ``of_state`` takes and gives, if the cell computes with it; otherwise nothing."""
    if not isinstance(cell, AffineCell):
        return ()
    sizes = []

    def of_state(h: Any) -> Any:
        net = cell.of_state(h)
        sizes[:] = h.shape[-1], net.shape[-1]
        return net

    with no_grad(), unwatched():
        none = np.zeros_like(cell.weight_ih._data, shape=(0, cell.input_size))
        with_maps(cell, of_state=of_state).step(none, cell.initial_state(none))
    return tuple(sizes)


def state_size(cell: Cell, name: str) -> Any:
    """That of the innermost cell, which must have one."""
    size = innermost(cell).state_size
    if size is None:
        raise TypeError(f"{name}: {type(innermost(cell)).__name__} does not say its state_size")
    return size


def for_each(p: Any, state: Any, name: str) -> Any:
    """One probability for each tensor of a state, if p is one for all; p itself, if it is a tree of them already."""

    def one(_: Any, p: Any) -> float:
        if not isinstance(p, Real):
            raise ValueError(f"{name}: expected a probability for each tensor of the state, got {described(p)} for one")
        return p

    return trees.map(lambda _: p, state) if isinstance(p, Real) else trees.map(one, state, p, name=name)


def each(function: Callable, state: Any, *others: Any) -> Any:
    """A state, with function(tensor, *theirs) for each of its floating-point tensors."""
    return trees.map(lambda s, *rest: function(s, *rest) if has_gradient(s.dtype) else s, state, *others)


def times(x: Any, mask: Any) -> Any:
    """x times a mask, if there is one."""
    return x if mask is None else x * mask
