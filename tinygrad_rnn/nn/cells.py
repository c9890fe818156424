"""Recurrent cells: what happens in one step of a sequence.

A cell is the equations of one step, and nothing else: ``y, state = cell.step(x, state)``. What runs it over a sequence
is in ``recurrent.py``. Below the contract (:class:`~tinygrad_rnn.nn.Cell`) are the cells that everybody needs, with
PyTorch's weights: their names, shapes and order of gates.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import trees
from ..arrays import device_of, is_array
from ..errors import (
    DeviceError,
    ShapeError,
    StateError,
    check_features,
    check_kind,
    conversions,
    counted,
    described,
    whole,
)
from ..ops import relu, sigmoid, split, tanh
from ..tensor import Tensor, bare, tensor
from .init import identity, normal, uniform
from .linear import linear
from .module import Module, Parameter
from .watch import show


class Cell(Module):
    """One step of a recurrence: a subclass says how large its state is, and writes ``step``.

    With ``input_size``, the inputs are checked to have that many features, in the parameters' dtype. Called as a
    function, ``y, state = cell(x, state)``, a cell checks what it is given; ``state=None`` is zeros.

    Attributes
    ----------
    state_size : int or tuple of int
        A number, where the state is one tensor (..., state_size); a tuple of them, where it is a tuple of tensors.
    state_names : str
        The names of the tensors in a tuple, for messages, such as ``"(h, c)"``.
    input_size : int or None
        The number of features of an input; None: whatever the step takes.

    Examples
    --------
    The update gate unit (Collins et al., 2017), which either keeps what it has or takes what is new, is:

    >>> from tinygrad_rnn import concatenate, nn
    >>> class UpdateGateCell(nn.Cell):
    ...     def __init__(self, input_size, hidden_size, rng=None):
    ...         rng = np.random.default_rng(rng)
    ...         self.input_size, self.state_size = input_size, hidden_size
    ...         self.gate = nn.Linear(input_size + hidden_size, hidden_size, rng=rng)
    ...         self.candidate = nn.Linear(input_size + hidden_size, hidden_size, rng=rng)
    ...     def step(self, x, h):
    ...         both = concatenate([x, h], axis=-1)
    ...         z = sigmoid(self.gate(both))
    ...         h = z * h + (1 - z) * tanh(self.candidate(both))
    ...         return h, h
    >>> ys, h = nn.scan(UpdateGateCell(3, 4, rng=0), np.ones((7, 2, 3), np.float32))
    >>> ys.shape, h.shape
    ((7, 2, 4), (2, 4))
    """

    state_size: Any = None
    state_names: str = ""  # of the tensors in a tuple, for messages
    input_size: int | None = None  # None: whatever the step takes

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """The output and the next state, from an input and a state.

        Parameters
        ----------
        x : array or Tensor, (..., features)
            The input of this step.
        state : Tensor or tuple of Tensor
            The state before it.

        Returns
        -------
        y : Tensor
            The output.
        state : Tensor or tuple of Tensor
            The state after it: of the same shapes and dtypes.
        """
        raise NotImplementedError(f"{type(self).__name__}: a cell computes in step(x, state), and this one has none")

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        """``step``, with what it is given and what it returns checked; ``state=None`` is ``initial_state(x)``."""
        state = self.start(x, state)
        return self.checked(self.step(x, state), state)

    def initial_state(self, x: Any) -> Any:
        """The state before the first input: exactly zeros, of the batch, the dtype and the device of x."""
        if self.state_size is None:
            raise TypeError(f"{type(self).__name__}: set self.state_size, a number or a tuple: how large its state is")
        check_kind(f"{type(self).__name__}: x", x)
        x = bare(x)
        try:
            return trees.map(lambda size: Tensor(np.zeros_like(x, shape=(*x.shape[:-1], size))), self.state_size)
        except (TypeError, ValueError) as error:
            if all(isinstance(n, (int, np.integer)) and n >= 0 for n in trees.flatten(self.state_size)[0]):
                raise
            raise TypeError(f"{type(self).__name__}: state_size: expected an integer, 0 or more, or a tuple or dict of "
                            f"them, got {self.state_size!r}") from error  # fmt: skip

    def watch(self, **named: Any) -> None:
        """Show what a step has computed, its gates, say, to whoever watches: see :func:`~tinygrad_rnn.nn.watching`."""
        show(self, named)

    # Checks, once a call or a scan, not at every step: what is wrong is said in the cell's words, not a product's

    def start(self, x: Any, state: Any = None, xs: Any = None) -> Any:
        """The state to start from, once x and state are checked.

        Parameters
        ----------
        x : array or Tensor, (..., features)
            The input of a step.
        state : Tensor or tuple of Tensor, optional
            The state that was given; None: ``initial_state(x)``.
        xs : array or Tensor, optional
            The inputs of all steps, where x is like one of them.

        Returns
        -------
        Tensor or tuple of Tensor
            The state.

        Raises
        ------
        ShapeError
            x has not as many features as the cell takes.
        TypeError
            x has not the dtype of the weights.
        DeviceError
            x is not on the device of the weights.
        StateError
            The state is not like the one that ``initial_state`` makes.
        """
        cell = type(self).__name__
        name, layout, got = ("x", "(batch, features)", x) if xs is None else ("xs", "(time, batch, features)", xs)
        if self.input_size is not None:
            if xs is None and state is None and getattr(x, "ndim", 0) > 2:  # each step would start from zeros
                raise ShapeError(f"{cell}: x: expected one step, (batch, features), got {described(x)}: "
                                 "nn.scan(cell, xs) runs a cell over a sequence")  # fmt: skip
            self._check_input(x, f"{cell}: {name}", layout, got)
        zeros = self.initial_state(x)
        if state is None:
            return zeros
        try:
            return self._check_state(state, zeros, f"{cell}: state")
        except ValueError as error:
            needs = ""
            if self.state_names:
                kinds = list(map(described, zeros))
                alike = len(set(kinds)) == 1
                needs = f": {cell} needs {self.state_names}, {f'each {kinds[0]}' if alike else ' and '.join(kinds)}"
            wrong = StateError(f"{error}{needs}")
            batches = {getattr(part, "shape", ())[:1] for part in trees.flatten(state)[0]}
            if xs is not None and batches == {xs.shape[:1]} != {xs.shape[1:2]}:
                wrong.add_note(f"xs is {layout}: if yours is (batch, time, features), pass xs.swapaxes(0, 1)")
            raise wrong from None

    def checked(self, result: Any, state: Any) -> tuple[Any, Any]:
        """What step returned: an output, and a state like the one that it was given."""
        name = f"{type(self).__name__}.step"
        y, after = pair(result, name)
        if isinstance(after, (tuple, list, dict)) and not isinstance(state, (tuple, list, dict)):
            raise ValueError(f"{name}: the state that it returned: expected {described(state)}, got {counted(after)}; "
                             "of a state of several tensors, state_size is a tuple, a number for each")  # fmt: skip
        return y, self._check_state(after, state, f"{name}: the state that it returned")

    def _check_input(self, x: Any, name: str, layout: str, got: Any) -> None:
        check_kind(name, x)
        check_features(name, x, self.input_size, f"the last axis of {layout}", got)
        for p in self.parameters():
            if x.dtype != p.dtype:
                raise TypeError(f"{name}: expected {p.dtype}, as the cell's weights are; it is {layout}, got "
                                f"{described(got)}: {conversions(p.dtype, x)}")  # fmt: skip
            if device_of(bare(x)) != p.device:
                raise DeviceError(f"{name}: expected it on {p.device!r}, where the cell's weights are; it is {layout}, "
                                  f"got {described(got)}: move one of them, with .to(device)")  # fmt: skip

    def _check_state(self, state: Any, like: Any, name: str) -> Any:
        def check(like_part: Any, part: Any) -> Any:
            if not is_array(bare(part)) or described(part) != described(like_part):
                raise ValueError(f"{name}: expected {described(like_part)}, got {counted(part)}")
            return part

        return trees.map(check, like, state, name=name)


def pair(result: Any, name: str) -> tuple[Any, Any]:
    """What a step returned, if it is a pair. (A tensor of two rows could be taken apart like one, too.)"""
    if not isinstance(result, tuple) or len(result) != 2:
        several = isinstance(result, tuple) and len(result) > 2
        way = ": put the state's tensors into one tuple, as in return y, (h, c)" if several else ""
        raise TypeError(f"{name}: expected it to return a tuple (y, state), got {counted(result)}{way}")
    return result


ACTIVATIONS = {"tanh": tanh, "relu": relu, "sigmoid": sigmoid, "linear": lambda x: x}


def activation(function: str | Callable, name: str = "nonlinearity") -> Callable:
    """The activation function of that name. (Cells keep the name: a module can be copied and pickled with it.)"""
    if callable(function):
        return function
    if function not in ACTIVATIONS:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, ACTIVATIONS))} or a function, got {function!r}")
    return ACTIVATIONS[function]


class AffineCell(Cell):
    """A cell made of two affine maps, of the input and of the state, each for all its gates at once.

    Parameters
    ----------
    input_size : int
        The number of features of an input.
    hidden_size : int
        The number of units.
    bias : bool, optional
        Whether the maps have biases.
    rng : int or Generator, optional
        For the weights: uniform within ±1/√hidden_size, as PyTorch's are.
    dtype : dtype, optional
        Of the weights.

    Attributes
    ----------
    weight_ih, weight_hh : Parameter
        (gates · hidden_size, input_size) and (gates · hidden_size, hidden_size): PyTorch's layout.
    bias_ih, bias_hh : Parameter or None
        (gates · hidden_size,).
    """

    rows = "h"  # the blocks of rows that the weights have: a letter for what each is for
    proj_size = 0  # of what is fed back, if it is not the units themselves: LSTM's projection

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, rng: Any = None, dtype: Any = np.float32
    ):
        self.input_size = input_size = whole("input_size", input_size, 0)
        self.hidden_size = self.state_size = hidden_size = whole("hidden_size", hidden_size, 1)
        rng, rows = np.random.default_rng(rng), len(self.rows) * hidden_size

        def weights(*shape: int) -> Parameter:
            return Parameter(uniform(shape, hidden_size**-0.5, rng, dtype))

        self.weight_ih, self.weight_hh = weights(rows, input_size), weights(rows, self.proj_size or hidden_size)
        self.bias_ih, self.bias_hh = (weights(rows), weights(rows)) if bias else (None, None)

    def _set_bias(self, name: str, gate: str, value: Any) -> None:
        """Let the bias of a gate be this: that of the input's map, while that of the state's is 0."""
        value, shapes = np.asarray(value), ((), (self.hidden_size,))
        if value.shape not in shapes or value.dtype.kind not in "fiu" or not np.isfinite(value).all():
            raise ValueError(f"{name}: expected a finite number, or one for each of {self.hidden_size} units, got "
                             f"{described(value) if value.ndim else value[()]!r}")  # fmt: skip
        self._set_rows(self.bias_ih, gate, value)
        self._set_rows(self.bias_hh, gate, 0)

    def _set_rows(self, p: Parameter, gate: str, value: Any) -> None:
        first, array = self.rows.index(gate) * self.hidden_size, p.data.copy()
        array[first : first + self.hidden_size] = value
        p.data = array

    def of_input(self, x: Any) -> Any:
        """The affine map of the input, (..., gates · hidden_size)."""
        return linear(x, self.weight_ih, self.bias_ih)

    def of_state(self, h: Any) -> Any:
        """The affine map of the state, (..., gates · hidden_size)."""
        return linear(h, self.weight_hh, self.bias_hh)

    def of_state_parts(self) -> list[tuple]:
        """The same map in two, that of the last gate apart: the weight and the bias of each."""
        cut = [(len(self.rows) - 1) * self.hidden_size]
        biases = (None, None) if self.bias_hh is None else split(self.bias_hh, cut)
        return list(zip(split(self.weight_hh, cut), biases))

    def extra_repr(self) -> str:
        """Its sizes."""
        return f"{self.input_size}, {self.hidden_size}" + (", bias=False" if self.bias_ih is None else "")


class RNNCell(AffineCell):
    """The simple recurrent cell (Elman, 1990).

    One step is::

        h' = φ(W_ih x + b_ih + W_hh h + b_hh)

    Elman's output layer, ``y = φ(V h + c)``, is not part of the cell: apply a :class:`~tinygrad_rnn.nn.Linear` to all
    outputs at once. ``weight_ih`` is (hidden_size, input_size), ``weight_hh`` (hidden_size, hidden_size), ``bias_ih``
    and ``bias_hh`` (hidden_size,): PyTorch's layout.

    Parameters
    ----------
    input_size : int
        The number of features of an input.
    hidden_size : int
        The number of units.
    bias : bool, optional
        Whether there are b_ih and b_hh.
    nonlinearity : str or callable, optional
        φ: ``"tanh"``; ``"relu"``, which has no bound: see :class:`~tinygrad_rnn.nn.IRNNCell`; ``"sigmoid"``;
        ``"linear"``: φ is left out; or any function of a tensor.
    **keywords
        ``rng``: a seed or a Generator for the weights, uniform within ±1/√hidden_size, as PyTorch's are; ``dtype``: of
        the weights, float32 by default.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> cell, readout = RNNCell(3, 4, nonlinearity="sigmoid", rng=0), nn.Linear(4, 2, rng=1)
    >>> ys, h = nn.scan(cell, np.ones((7, 5, 3), np.float32))
    >>> readout(ys).shape
    (7, 5, 2)
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str | Callable = "tanh",
        **keywords: Any,
    ):  # fmt: skip
        activation(nonlinearity)
        super().__init__(input_size, hidden_size, bias, **keywords)
        self.nonlinearity = nonlinearity

    def step(self, x: Any, h: Any) -> tuple[Any, Any]:
        """One step: h' is the output, and the next state."""
        net = self.of_input(x) + self.of_state(h)
        h = activation(self.nonlinearity)(net)
        return h, h


class IRNNCell(RNNCell):
    """The simple cell with relu, its recurrent matrix the identity at first (Le, Jaitly and Hinton, 2015).

    One step is::

        h' = relu(W_ih x + b_ih + W_hh h + b_hh)

    So it starts as a sum of what it has seen, and a gradient passes back through it unchanged. The biases are 0 at
    first. The weights have the shapes of :class:`~tinygrad_rnn.nn.RNNCell`'s.

    Parameters
    ----------
    input_size : int
        The number of features of an input.
    hidden_size : int
        The number of units.
    bias : bool, optional
        Whether there are b_ih and b_hh.
    std : float, optional
        The standard deviation of W_ih, which is normally distributed; by default the paper's.
    rng : int or Generator, optional
        For W_ih.
    dtype : dtype, optional
        Of the weights.

    Examples
    --------
    >>> cell = IRNNCell(2, 3, rng=0)
    >>> cell(np.zeros((1, 2), np.float32), np.array([[1, 0, 2]], np.float32))[1]
    tensor([[1., 0., 2.]], float32, from=relu)
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
    """The gated recurrent unit (Cho et al., 2014), in the four ways in which it is written.

    One step is::

        r = σ(W_ir x + b_ir + W_hr h + b_hr)             z = σ(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))    h' = n + z * (h - n) = (1 - z) * n + z * h

    The rows of the weights are r, z, n, as PyTorch's: ``weight_ih`` is (3 · hidden_size, input_size), ``weight_hh`` (3
    · hidden_size, hidden_size), ``bias_ih`` and ``bias_hh`` (3 · hidden_size,).

    The state dict of a cell that overwrites has an empty entry, ``overwrites``: so none is loaded that means the other
    gate, such as that of another library, all of which keep; :meth:`with_update_gate` gives the weights for them, as
    :func:`~tinygrad_rnn.nn.to_keras` and :func:`~tinygrad_rnn.nn.to_onnx` do by themselves.

    Parameters
    ----------
    input_size : int
        The number of features of an input.
    hidden_size : int
        The number of units.
    bias : bool, optional
        Whether there are biases.
    reset_after : bool, optional
        Where the reset gate acts: after the product, as above and in PyTorch; or (False) before it, as in the paper,
        ``n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)``.
    update_gate : {"keeps", "overwrites"}, optional
        What z = 1 means: it keeps the state, as above and in PyTorch; or it overwrites it, as in many lectures,
        ``h' = h + z * (n - h)``.
    update_bias : float or array, (hidden_size,), optional
        What b_iz is at first, where b_hz is 0 then: a positive one keeps the state from the start (where the gate
        overwrites, a negative one). None: random, like the other biases.
    **keywords
        ``rng`` and ``dtype``, as of :class:`~tinygrad_rnn.nn.RNNCell`.

    Raises
    ------
    ValueError
        ``update_gate`` is neither of the two; or ``update_bias`` is no number, or there are no biases.

    Examples
    --------
    >>> cell = GRUCell(3, 4, update_gate="overwrites", rng=0)
    >>> list(cell.state_dict())[-1], list(cell.with_update_gate("keeps").state_dict())[-1]
    ('overwrites', 'bias_hh')
    """

    rows = "rzn"

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, reset_after: bool = True,
        update_gate: str = "keeps", update_bias: Any = None, **keywords: Any,
    ):  # fmt: skip
        if update_bias is not None and not bias:
            raise ValueError("update_bias: expected an update gate with a bias, and there is none here")
        super().__init__(input_size, hidden_size, bias, **keywords)
        self.reset_after = reset_after
        self._set_meaning(update_gate)
        if update_bias is not None:
            self._set_bias("update_bias", "z", update_bias)

    def _set_meaning(self, update_gate: str) -> None:
        if update_gate not in ("keeps", "overwrites"):
            raise ValueError(f"update_gate: expected 'keeps' or 'overwrites', got {update_gate!r}")
        self.update_gate = update_gate
        w = self.weight_ih
        self.overwrites = None if update_gate == "keeps" else tensor([], dtype=w.dtype, device=w.device)

    def step(self, x: Any, h: Any) -> tuple[Any, Any]:
        """One step: h' is the output, and the next state."""
        cut = [2 * self.hidden_size]
        x_rz, x_n = split(self.of_input(x), cut, axis=-1)
        if self.reset_after:
            h_rz, h_n = split(self.of_state(h), cut, axis=-1)
            r, z = split(sigmoid(x_rz + h_rz), 2, axis=-1)
            n = tanh(x_n + r * h_n)
        else:
            of_rz, of_n = self.of_state_parts()
            r, z = split(sigmoid(x_rz + linear(h, *of_rz)), 2, axis=-1)
            n = tanh(x_n + linear(r * h, *of_n))
        self.watch(r=r, z=z, n=n)
        h = n + z * (h - n) if self.update_gate == "keeps" else h + z * (n - h)
        return h, h

    def with_update_gate(self, meaning: str) -> GRUCell:
        """A copy that computes the same, with an update gate of the given meaning.

        As 1 - σ(a) = σ(-a), z's weights are negated, if it is the other one. The copy has no gradients then.

        Parameters
        ----------
        meaning : {"keeps", "overwrites"}
            What z = 1 means in the copy.

        Returns
        -------
        GRUCell
            The copy.

        Examples
        --------
        >>> theirs = GRUCell(3, 4, update_gate="overwrites", rng=0, dtype=np.float64)
        >>> x, h = np.ones((2, 3)), np.ones((2, 4))
        >>> np.allclose(theirs(x, h)[0].data, theirs.with_update_gate("keeps")(x, h)[0].data, atol=1e-15, rtol=0)
        True
        """
        cell = copy.deepcopy(self)
        cell._set_meaning(meaning)
        if meaning != self.update_gate:
            cell.zero_grad()  # it is of the weights as they were
            for p in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh):
                if p is not None:
                    r, z, n = np.split(p.data, 3)
                    p.data = np.concatenate([r, -z, n])
        return cell


class LSTMCell(AffineCell):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997), with the forget gate (Gers et al., 2000).

    One step is::

        i = σ(W_ii x + b_ii + W_hi h + b_hi)       f = σ(W_if x + b_if + W_hf h + b_hf)
        g = tanh(W_ig x + b_ig + W_hg h + b_hg)    o = σ(W_io x + b_io + W_ho h + b_ho)
        c' = f * c + i * g                         h' = o * tanh(c')

    The state is (h, c). The rows of the weights are i, f, g, o, as PyTorch's: ``weight_ih`` is (4 · hidden_size,
    input_size), ``weight_hh`` (4 · hidden_size, hidden_size), ``bias_ih`` and ``bias_hh`` (4 · hidden_size,).

    Parameters
    ----------
    input_size : int
        The number of features of an input.
    hidden_size : int
        The number of units.
    bias : bool, optional
        Whether there are biases.
    proj_size : int, optional
        If not 0, the output is projected to so many features, ``h' = W_hr (o * tanh(c'))``, which are fed back (Sak et
        al., 2014). ``weight_hr`` is (proj_size, hidden_size), and ``weight_hh`` (4 · hidden_size, proj_size).
    forget_bias : float or array, (hidden_size,), optional
        What b_if is at first, where b_hf is 0 then; 1 lets the cell remember from the start (Gers et al., 2000;
        Jozefowicz et al., 2015). None: random, like the other biases.
    forget_identity : bool, optional
        Whether W_hf is the identity at first.
    rng : int or Generator, optional
        For the weights: uniform within ±1/√hidden_size, as PyTorch's are.
    dtype : dtype, optional
        Of the weights.

    Raises
    ------
    ValueError
        ``proj_size`` is not below ``hidden_size``; or ``forget_bias`` or ``forget_identity`` has no forget gate to set,
        no bias, or no square matrix.

    Examples
    --------
    >>> cell = LSTMCell(3, 4, proj_size=2, forget_bias=1.0, rng=0)
    >>> y, (h, c) = cell(np.ones((5, 3), np.float32))
    >>> y.shape, h.shape, c.shape
    ((5, 2), (5, 2), (5, 4))
    """

    rows = "ifgo"
    state_names = "(h, c)"

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, proj_size: int = 0,
        forget_bias: Any = None, forget_identity: bool = False, rng: Any = None, dtype: Any = np.float32,
    ):  # fmt: skip
        rng = np.random.default_rng(rng)
        if (proj_size := whole("proj_size", proj_size, 0)) >= whole("hidden_size", hidden_size, 1):
            raise ValueError(f"proj_size: expected less than hidden_size {hidden_size}, or 0 for none, got {proj_size}")
        if forget_bias is not None and not (bias and "f" in self.rows):
            raise ValueError("forget_bias: expected a forget gate with a bias, and there is none here")
        if forget_identity and (proj_size or "f" not in self.rows):
            raise ValueError("forget_identity: expected a square matrix W_hf, and there is none here")
        self.proj_size = proj_size
        super().__init__(input_size, hidden_size, bias, rng=rng, dtype=dtype)
        self.state_size = (proj_size or hidden_size, hidden_size)
        self.weight_hr = None
        if proj_size:
            self.weight_hr = Parameter(uniform((proj_size, hidden_size), hidden_size**-0.5, rng, dtype))
        if forget_bias is not None:
            self._set_bias("forget_bias", "f", forget_bias)
        if forget_identity:
            self._set_rows(self.weight_hh, "f", np.eye(hidden_size))

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step: h' is the output, and (h', c') the next state."""
        h, c = state
        net = self.of_input(x) + self.of_state(h)
        i, f, g, o = split(net, 4, axis=-1)
        i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
        c = f * c + i * g
        h = self.projected(o * tanh(c))
        self.watch(i=i, f=f, g=g, o=o, c=c)
        return h, (h, c)

    def projected(self, h: Any) -> Any:
        """The output of the units: what is fed back, and put out."""
        return h if self.weight_hr is None else linear(h, self.weight_hr)

    def extra_repr(self) -> str:
        """Its sizes."""
        return super().extra_repr() + ("" if self.weight_hr is None else f", proj_size={self.proj_size}")
