"""Recurrent cells: what happens in one step of a sequence.

A cell is the equations of one step, and nothing else: ``y, state = cell.step(x, state)``. What runs it over a sequence
is in ``recurrent.py``. Below the contract (:class:`Cell`) are the cells that everybody needs, with PyTorch's weights:
their names, shapes and order of gates.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import trees
from ..arrays import device_of, is_array
from ..errors import DeviceError, described
from ..ops import relu, sigmoid, split, tanh
from ..tensor import Tensor
from .init import identity, normal, uniform
from .linear import linear
from .module import Module, Parameter


class Cell(Module):
    """One step of a recurrence. A subclass says how large its state is, and writes ``step``.

    ``state_size`` is a number, where the state is one tensor (..., state_size); a tuple of numbers, where it is a tuple
    of tensors. With ``input_size``, the inputs are checked to have that many features, in the parameters' dtype.
    Called as a function, ``y, state = cell(x, state)``, a cell checks what it is given; ``state=None`` is zeros.

    The minimal gated unit (Zhou et al., 2016), an LSTM whose one gate both forgets and writes, is:

    >>> from tinygrad_rnn import concatenate, nn
    >>> class MinimalGatedCell(nn.Cell):
    ...     def __init__(self, input_size, hidden_size, rng=None):
    ...         rng = np.random.default_rng(rng)
    ...         self.input_size, self.state_size = input_size, hidden_size
    ...         self.forget = nn.Linear(input_size + hidden_size, hidden_size, rng=rng)
    ...         self.candidate = nn.Linear(input_size + hidden_size, hidden_size, rng=rng)
    ...     def step(self, x, h):
    ...         f = sigmoid(self.forget(concatenate([x, h], axis=-1)))
    ...         n = tanh(self.candidate(concatenate([x, f * h], axis=-1)))
    ...         h = (1 - f) * h + f * n
    ...         return h, h
    >>> ys, h = nn.scan(MinimalGatedCell(3, 4, rng=0), np.ones((7, 2, 3), np.float32))
    >>> ys.shape, h.shape
    ((7, 2, 4), (2, 4))
    """

    state_size: Any = None
    state_names: str = ""  # of the tensors in a tuple, for messages
    input_size: int | None = None  # None: whatever the step takes

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """The output and the next state, from an input (..., features) and a state."""
        raise NotImplementedError(f"{type(self).__name__}: a cell computes in step(x, state), and this one has none")

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        state = self.start(x, state)
        return self.checked(self.step(x, state), state)

    def initial_state(self, x: Any) -> Any:
        """The state before the first input: exactly zeros, of the batch, the dtype and the device of x."""
        if self.state_size is None:
            raise TypeError(f"{type(self).__name__}: set self.state_size, a number or a tuple: how large its state is")
        x = getattr(x, "_data", x)
        return trees.map(lambda size: Tensor(np.zeros_like(x, shape=(*x.shape[:-1], size))), self.state_size)

    # Checks, once a call or a scan, not at every step: what is wrong is said in the cell's words, not a product's

    def start(self, x: Any, state: Any = None, xs: Any = None) -> Any:
        """The state to start from, once x and state are checked. xs: the inputs of all steps, where x is like one."""
        name, layout, got = ("x", "(batch, features)", x) if xs is None else ("xs", "(time, batch, features)", xs)
        if self.input_size is not None:
            self._check_input(x, f"{type(self).__name__}: {name}", f"{layout}, got {described(got)}")
        zeros = self.initial_state(x)
        if state is None:
            return zeros
        try:
            return self._check_state(state, zeros, f"{type(self).__name__}: state")
        except ValueError as error:
            if self.state_names:
                error.add_note(f"a state of {type(self).__name__} is {self.state_names}, each {described(zeros[0])}")
            batches = {getattr(part, "shape", ())[:1] for part in trees.flatten(state)[0]}
            if xs is not None and batches == {xs.shape[:1]} != {xs.shape[1:2]}:
                error.add_note(f"xs is {layout}: if yours is (batch, time, features), pass xs.swapaxes(0, 1)")
            raise

    def checked(self, result: Any, state: Any) -> tuple[Any, Any]:
        """What step returned: an output, and a state like the one that it was given."""
        y, after = pair(result, f"{type(self).__name__}.step")
        return y, self._check_state(after, state, f"{type(self).__name__}.step: the state that it returned")

    def _check_input(self, x: Any, name: str, got: str) -> None:
        if x.shape[-1:] != (self.input_size,):
            raise ValueError(f"{name}: expected {self.input_size} features on the last axis of {got}")
        for p in self.parameters():
            if x.dtype != p.dtype:
                raise TypeError(f"{name}: expected {p.dtype}, as the cell's weights are; it is {got}: convert it, "
                                f"astype({p.dtype.name!r}), or make the cell with another dtype")  # fmt: skip
            if device_of(getattr(x, "_data", x)) != p.device:
                raise DeviceError(f"{name}: expected it on {p.device!r}, where the cell's weights are; it is {got}: "
                                  "move one of them, with .to(device)")  # fmt: skip

    def _check_state(self, state: Any, like: Any, name: str) -> Any:
        def check(like_part: Any, part: Any) -> Any:
            if not is_array(getattr(part, "_data", part)) or described(part) != described(like_part):
                raise ValueError(f"{name}: expected {described(like_part)}, got {described(part)}")
            return part

        return trees.map(check, like, state, name=name)


def pair(result: Any, name: str) -> tuple[Any, Any]:
    """What a step returned, if it is a pair. (A tensor of two rows could be taken apart like one, too.)"""
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"{name}: expected it to return a tuple (y, state), got {described(result)}")
    return result


class AffineCell(Cell):
    """A cell made of two affine maps, of the input and of the state, each for all its gates at once.

    Args:
        input_size: the number of features of an input.
        hidden_size: the number of units.
        bias: whether the maps have biases.
        rng: a seed, or a Generator, for the weights: uniform within ±1/√hidden_size, as PyTorch's are.
        dtype: of the weights.

    ``weight_ih`` is (gates · hidden_size, input_size), ``weight_hh`` (gates · hidden_size, hidden_size), ``bias_ih``
    and ``bias_hh`` (gates · hidden_size,): PyTorch's layout.
    """

    gates = 1

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, rng: Any = None, dtype: Any = np.float32
    ):
        if input_size < 0 or hidden_size < 1:
            raise ValueError(f"input_size, hidden_size: expected at least 0 and 1, got {input_size} and {hidden_size}")
        self.input_size, self.hidden_size, self.state_size = input_size, hidden_size, hidden_size
        rng, rows = np.random.default_rng(rng), self.gates * hidden_size

        def weights(*shape: int) -> Parameter:
            return Parameter(uniform(shape, hidden_size**-0.5, rng, dtype))

        self.weight_ih, self.weight_hh = weights(rows, input_size), weights(rows, hidden_size)
        self.bias_ih, self.bias_hh = (weights(rows), weights(rows)) if bias else (None, None)

    def of_input(self, x: Any) -> Any:
        """The affine map of the input, (..., gates · hidden_size)."""
        return linear(x, self.weight_ih, self.bias_ih)

    def of_state(self, h: Any) -> Any:
        """The affine map of the state, (..., gates · hidden_size)."""
        return linear(h, self.weight_hh, self.bias_hh)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + (", bias=False" if self.bias_ih is None else "")


class RNNCell(AffineCell):
    """The simple recurrent cell (Elman, 1990).

        h' = tanh(W_ih x + b_ih + W_hh h + b_hh)

    nonlinearity: ``"tanh"``, or ``"relu"``, which has no bound: see :class:`IRNNCell`. The others: :class:`AffineCell`.
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", **keywords: Any
    ):
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(input_size, hidden_size, bias, **keywords)
        self.nonlinearity = nonlinearity

    def step(self, x: Any, h: Any) -> tuple[Any, Any]:
        activation = tanh if self.nonlinearity == "tanh" else relu
        h = activation(self.of_input(x) + self.of_state(h))
        return h, h


class IRNNCell(RNNCell):
    """The simple cell with relu, its recurrent matrix the identity at first (Le, Jaitly and Hinton, 2015).

    So it starts as a sum of what it has seen, and a gradient passes back through it unchanged. The biases are 0, and
    the input's weights normal with the standard deviation std (by default the paper's).
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, std: float = 0.001, *, rng: Any = None,
        dtype: Any = np.float32,
    ):  # fmt: skip
        super().__init__(input_size, hidden_size, bias, "relu", rng=rng, dtype=dtype)
        self.weight_ih = Parameter(normal(self.weight_ih.shape, std, rng, dtype))
        self.weight_hh = Parameter(identity(self.weight_hh.shape, dtype=dtype))
        if bias:
            self.bias_ih, self.bias_hh = (Parameter(np.zeros(hidden_size, dtype)) for _ in range(2))


class GRUCell(AffineCell):
    """The gated recurrent unit (Cho et al., 2014).

        r = σ(W_ir x + b_ir + W_hr h + b_hr)             z = σ(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))    h' = (1 - z) * n + z * h

    The rows of the weights are r, z, n, as PyTorch's. ``reset_after=False``: the reset gate acts before the product, as
    in the paper, n = tanh(W_in x + b_in + W_hn (r * h) + b_hn). The other arguments are :class:`AffineCell`'s.
    """

    gates = 3

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, reset_after: bool = True, **keywords: Any):
        super().__init__(input_size, hidden_size, bias, **keywords)
        self.reset_after = reset_after

    def step(self, x: Any, h: Any) -> tuple[Any, Any]:
        cut = [2 * self.hidden_size]
        x_rz, x_n = split(self.of_input(x), cut, axis=-1)
        if self.reset_after:
            h_rz, h_n = split(self.of_state(h), cut, axis=-1)
            r, z = split(sigmoid(x_rz + h_rz), 2, axis=-1)
            n = tanh(x_n + r * h_n)
        else:
            weight_rz, weight_n = split(self.weight_hh, cut)
            bias_rz, bias_n = (None, None) if self.bias_hh is None else split(self.bias_hh, cut)
            r, z = split(sigmoid(x_rz + linear(h, weight_rz, bias_rz)), 2, axis=-1)
            n = tanh(x_n + linear(r * h, weight_n, bias_n))
        h = n + z * (h - n)
        return h, h


class LSTMCell(AffineCell):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997), with the forget gate (Gers et al., 2000).

        i = σ(W_ii x + b_ii + W_hi h + b_hi)       f = σ(W_if x + b_if + W_hf h + b_hf)
        g = tanh(W_ig x + b_ig + W_hg h + b_hg)    o = σ(W_io x + b_io + W_ho h + b_ho)
        c' = f * c + i * g                         h' = o * tanh(c')

    The rows of the weights are i, f, g, o, as PyTorch's. The state is (h, c). The arguments are :class:`AffineCell`'s.
    """

    gates = 4
    state_names = "(h, c)"

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, **keywords: Any):
        super().__init__(input_size, hidden_size, bias, **keywords)
        self.state_size = (hidden_size, hidden_size)

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        h, c = state
        i, f, g, o = split(self.of_input(x) + self.of_state(h), 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return h, (h, c)
