"""Cells that remember for a time which is chosen: leaky units, and modules that tick at periods of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..ops import remainder, where
from ..tensor import Tensor, tensor
from .cells import RNNCell, activation
from .linear import linear
from .module import Parameter


class LeakyCell(RNNCell):
    """Leaky units: each keeps a part of what it was, and remembers for about 1 / a steps (Mozer, 1992; Jaeger, 2001).

    One step is::

        h' = (1 - a) * h + a * φ(W_ih x + b_ih + W_hh h + b_hh)

    Parameters
    ----------
    input_size : int
        The number of features of an input.
    hidden_size : int
        The number of units.
    leak : float, array or Parameter, () or (hidden_size,)
        a, between 0 (nothing is ever new) and 1 (an :class:`~tinygrad_rnn.nn.RNNCell`): a number, or one for each unit.
        A :class:`~tinygrad_rnn.nn.Parameter` is trained, too (and is not kept between 0 and 1).
    bias : bool, optional
        Whether there are b_ih and b_hh.
    nonlinearity : str or callable, optional
        φ, as of :class:`~tinygrad_rnn.nn.RNNCell`.
    recurrent : bool, optional
        False: without W_hh and b_hh, ``h' = (1 - a) * h + a * φ(W_ih x + b_ih)``, so that units do not see each other:
        with φ ``"linear"``, a moving average with exponential weights.
    **keywords
        ``rng`` and ``dtype``, as of :class:`~tinygrad_rnn.nn.RNNCell`.

    Raises
    ------
    ValueError
        ``leak`` is not between 0 and 1, or has another shape.

    Examples
    --------
    >>> cell = LeakyCell(1, 1, 0.5, bias=False, nonlinearity="linear", recurrent=False)
    >>> cell.weight_ih.data = np.ones((1, 1), np.float32)
    >>> h = np.array([[8]], np.float32)
    >>> for x in (0, 0, 1):
    ...     y, h = cell(np.array([[x]], np.float32), h)
    >>> h.item()
    1.5
    """

    def __init__(
        self, input_size: int, hidden_size: int, leak: Any, bias: bool = True, nonlinearity: str | Callable = "tanh",
        recurrent: bool = True, **keywords: Any,
    ):  # fmt: skip
        super().__init__(input_size, hidden_size, bias, nonlinearity, **keywords)
        if not isinstance(leak, Tensor):
            leak = tensor(np.asarray(leak, self.weight_ih.dtype)) if np.ndim(leak) else float(leak)
        values = leak.numpy() if isinstance(leak, Tensor) else np.asarray(leak)
        if values.shape not in ((), (hidden_size,)) or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"leak: expected a number from 0 to 1, or {hidden_size} of them, got {leak!r}")
        self.leak = leak
        if not recurrent:
            self.weight_hh = self.bias_hh = None

    def step(self, x: Any, h: Any) -> tuple[Any, Any]:
        """One step: h' is the output, and the next state."""
        net = self.of_input(x)
        if self.weight_hh is not None:
            net = net + self.of_state(h)
        h = (1 - self.leak) * h + self.leak * activation(self.nonlinearity)(net)
        return h, h


class ClockworkCell(RNNCell):
    """The clockwork cell (Koutník et al., 2014): modules of units, each of which changes only when its period is over.

    One step is::

        h'_k = φ(W_ih x + b_ih + Σ_{j ≥ k} W_hh h_j + b_hh)_k    if the number of the step can be divided by period k,
        h'_k = h_k                                               if not

    So a module is told by itself and the slower ones: ``weight_hh`` is block upper triangular, and what is below is 0,
    and not used. The number of the step, from 0 (where all modules change), is part of the state, which is (h, clock):
    each sequence has a clock of its own.

    Parameters
    ----------
    input_size : int
        The number of features of an input.
    hidden_size : int
        The number of units: a multiple of the number of periods, as they are shared out evenly.
    periods : sequence of int
        Those of the modules, ascending: whole numbers, from 1.
    bias : bool, optional
        Whether there are b_ih and b_hh.
    nonlinearity : str or callable, optional
        φ, as of :class:`~tinygrad_rnn.nn.RNNCell`.
    **keywords
        ``rng`` and ``dtype``, as of :class:`~tinygrad_rnn.nn.RNNCell`.

    Raises
    ------
    ValueError
        The periods are none, do not divide the units, or are all over at once only after more steps than the dtype can
        count.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> ys, (h, clock) = nn.scan(ClockworkCell(1, 2, periods=(1, 2), rng=0), np.ones((4, 1, 1), np.float32))
    >>> ys.data[:, 0].round(2)
    array([[ 0.39,  0.55],
           [-0.21,  0.55],
           [ 0.17,  0.73],
           [-0.2 ,  0.73]], dtype=float32)
    """

    state_names = "(h, clock)"

    def __init__(
        self, input_size: int, hidden_size: int, periods: Sequence[int], bias: bool = True,
        nonlinearity: str | Callable = "tanh", **keywords: Any,
    ):  # fmt: skip
        super().__init__(input_size, hidden_size, bias, nonlinearity, **keywords)
        self.periods, dtype = tuple(periods), self.weight_ih.dtype
        if not self.periods or any(p != int(p) or p < 1 for p in periods) or sorted(periods) != list(periods):
            raise ValueError(f"periods: expected ascending whole numbers from 1, got {periods!r}")
        if hidden_size % len(self.periods):
            raise ValueError(f"hidden_size: expected a multiple of the number of periods, {len(self.periods)}, "
                             f"got {hidden_size}")  # fmt: skip
        self.round = math.lcm(*map(int, self.periods))  # after so many steps the clock starts again
        if self.round > (limit := int(2 / np.finfo(dtype).eps)):
            raise ValueError(f"periods: expected all to be over at once within {limit} steps, as {dtype} cannot count "
                             f"further; that takes {self.round}")  # fmt: skip
        self.state_size = (hidden_size, 1)
        module = np.arange(hidden_size) // (hidden_size // len(self.periods))
        self.unit_periods = tensor(np.asarray(self.periods, np.int64)[module])
        self.connected = tensor((module[:, None] <= module).astype(dtype))
        self.weight_hh = Parameter(self.weight_hh.data * self.connected.data)

    def initial_state(self, x: Any) -> Any:
        """Zeros, and the clocks at 0, as integers."""
        h, clock = super().initial_state(x)
        return h, clock.astype(np.int64)  # which noise, norms and skips leave alone

    def of_state(self, h: Any) -> Any:
        """The affine map of the state, by the connections that there are."""
        return linear(h, self.weight_hh * self.connected, self.bias_hh)

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step: h' is the output, and (h', clock) the next state, each clock one step on."""
        h, clock = state
        new = activation(self.nonlinearity)(self.of_input(x) + self.of_state(h))
        h = where(remainder(clock, self.unit_periods) == 0, new, h)
        return h, (h, remainder(clock + 1, self.round))
