"""Reservoirs: recurrent networks that are drawn at random, and left so; only what reads them out is trained.

A reservoir is a cell like any other: :func:`~tinygrad_rnn.scan` runs it, and gradients pass through it, which
:meth:`~tinygrad_rnn.nn.EchoStateNetwork.tune` makes use of. What is fitted to its states is in ``readout.py``, and both
together, from a series to a forecast, in ``echo_state.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arrays import device_of, move
from ..errors import DeviceError, conversions, described, whole
from ..ops import concatenate, sparse_matmul
from ..ops.sparse import sparse_arrays
from ..tensor import Tensor, bare, tensor
from . import spectrum
from .cells import Cell, activation
from .init import orthogonal
from .linear import linear
from .module import Parameter
from .spectrum import EchoState, has_scipy

CONNECTIONS = 10  # of a unit, by default (Lukoševičius, 2012)
WORTH_IT = 2**17  # elements of a matrix, from which on a sparse product is faster than a dense one...
SPARSE = 0.2  # ...if no more of them are not 0


class Reservoir(Cell):
    """A reservoir of leaky units (Jaeger, 2001; Lukoševičius, 2012).

    One step is::

        h' = (1 - a) h + a φ(W_in u + W_fb y + W h + b + σ ν)

    u is the input, and y what is fed back (an output, or its target): of a reservoir with feedback, the input of a step
    is both, joined: (batch, input_size + feedback_size). ν is standard normal noise, drawn while it is trained
    (``.train()``, ``.eval()``).

    Parameters
    ----------
    input_size : int
        The number of features of u; 0, if there is nothing but what is fed back.
    units : int
        The number of units.
    leak : float or array, () or (units,), optional
        a, above 0, to 1: a number, or one for each unit.
    spectral_radius : float or None, optional
        What W is scaled to; None leaves it as it is drawn.
    density : float, optional
        How many of the connections there are, of all; by default ten a unit.
    topology : str, array or sparse matrix, optional
        Of W: ``"random"``; ``"ring"``, where each unit hears the one before it (Rodan and Tino, 2011);
        ``"orthogonal"``, which has all connections; or W itself, an array or a SciPy sparse matrix.
    distribution : {"uniform", "normal", "bernoulli"}, optional
        Of the connections, input weights and biases, before they are scaled: in [-1, 1]; standard normal; or ±1.
    input_scaling : float or sequence of float, optional
        What the input's weights are multiplied with: a number, or one for each feature.
    input_density : float, optional
        How many of the input's weights are not 0: above 0, to 1.
    bias_scaling : float, optional
        What b is multiplied with.
    feedback_size : int, optional
        The number of features of y.
    feedback_scaling : float or sequence of float, optional
        What the weights of y are multiplied with: a number, or one for each feature.
    nonlinearity : str or callable, optional
        φ, as of :class:`~tinygrad_rnn.nn.RNNCell`.
    noise : float, optional
        σ.
    sparse : bool or "auto", optional
        Whether W is kept as a sparse matrix, which needs SciPy. ``"auto"``: if it is there, and saves time.
    trainable : bool, optional
        Whether weights and leak are parameters; or constants, saved and moved like these.
    rng : int or Generator, optional
        For all that is drawn.
    dtype : dtype, optional
        Of the weights; readouts are ill conditioned, so double precision is the default here.

    Attributes
    ----------
    weight_ih : Tensor
        W_in and W_fb, (units, input_size + feedback_size).
    bias : Tensor
        b, (units,).
    weight_hh : Tensor
        W, (units, units); or, sparse, its entries, with ``indices`` and ``indptr``: see
        :func:`~tinygrad_rnn.sparse_matmul`.

    Raises
    ------
    ValueError
        A setting makes no sense; or W cannot be scaled, as its spectral radius is 0: it is nilpotent, or empty.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> cell = Reservoir(1, 50, leak=0.3, spectral_radius=0.9, bias_scaling=0.1, rng=0)
    >>> states, h = nn.scan(cell, np.ones((100, 2, 1)))
    >>> states.shape, round(cell.spectral_radius(), 12)
    ((100, 2, 50), 0.9)
    """

    def __init__(
        self, input_size: int, units: int, *, leak: Any = 1.0, spectral_radius: float | None = 0.9,
        density: float | None = None, topology: Any = "random", distribution: str = "uniform",
        input_scaling: Any = 1.0, input_density: float = 1.0, bias_scaling: float = 0.0, feedback_size: int = 0,
        feedback_scaling: Any = 1.0, nonlinearity: str | Callable = "tanh", noise: float = 0.0, sparse: Any = "auto",
        trainable: bool = False, rng: Any = None, dtype: Any = np.float64,
    ):  # fmt: skip
        self.units = self.state_size = units = whole("units", units, 1)
        self.feedback_size = whole("feedback_size", feedback_size, 0)
        self.input_size = whole("input_size", input_size, 0) + feedback_size
        activation(nonlinearity)
        self.nonlinearity, self.noise = nonlinearity, number("noise", noise, 0)
        dtype = np.dtype(dtype)
        leak = np.asarray(leak, dtype)
        if leak.shape not in ((), (units,)) or not ((leak > 0) & (leak <= 1)).all():
            raise ValueError(f"leak: expected a number above 0, to 1, or {units} of them, got {described(leak[()])}")
        draw, self.rng = drawing(distribution), np.random.default_rng(rng)
        kind = Parameter if trainable else tensor

        entries, indices, indptr = self._recurrent(topology, density, draw, dtype)
        weights = [*scaled("input_scaling", input_scaling, input_size)]
        weights += scaled("feedback_scaling", feedback_scaling, feedback_size)
        present = self.rng.random((units, self.input_size)) < fraction("input_density", input_density)
        weight_ih = draw(self.rng, (units, self.input_size)) * present * weights
        self.weight_ih = kind(weight_ih.astype(dtype))
        self.bias = kind((number("bias_scaling", bias_scaling) * draw(self.rng, (units,))).astype(dtype))
        self.leak = None if not trainable and (leak == 1).all() else kind(leak)
        self._keep(entries, indices, indptr, sparse, spectral_radius, kind)

    def _recurrent(self, topology: Any, density: float | None, draw: Callable, dtype: Any) -> tuple:
        """W by rows: its entries, their columns, and where each row begins."""
        units = self.units
        if isinstance(topology, str) and topology not in ("random", "ring", "orthogonal"):
            raise ValueError(f"topology: expected 'random', 'ring', 'orthogonal' or a matrix, got {topology!r}")
        if density is not None and not (isinstance(topology, str) and topology == "random"):
            raise ValueError("density: it is for the random topology: the others say by themselves who is connected")
        if not isinstance(topology, str):
            return rows_of(topology, units, dtype)
        if topology == "ring":
            return np.ones(units, dtype), (np.arange(units) - 1) % units, np.arange(units + 1)
        if topology == "orthogonal":
            return rows_of(orthogonal((units, units), rng=self.rng, dtype=dtype), units, dtype)
        density = min(1.0, CONNECTIONS / units) if density is None else fraction("density", density)
        counts = self.rng.binomial(units, density, units)
        columns = [np.sort(self.rng.choice(units, n, replace=False, shuffle=False)) for n in counts.tolist()]
        indices = np.concatenate(columns)
        return draw(self.rng, indices.shape).astype(dtype), indices, np.concatenate([[0], counts.cumsum()])

    def _keep(
        self, entries: np.ndarray, indices: np.ndarray, indptr: np.ndarray, sparse: Any, radius: float | None,
        kind: Callable,
    ) -> None:  # fmt: skip
        """Scale W, and keep it: as a sparse matrix, or with its zeros."""
        if sparse not in (True, False, "auto"):
            raise ValueError(f"sparse: expected True, False or 'auto', got {sparse!r}")
        if sparse == "auto":
            sparse = has_scipy() and self.units**2 >= WORTH_IT and len(entries) <= SPARSE * self.units**2
        if sparse:
            indices, indptr = indices.astype(np.int32), indptr.astype(np.int32)
            w = sparse_arrays(np).csr_matrix((entries, indices, indptr), shape=(self.units, self.units))
        else:
            w = np.zeros((self.units, self.units), entries.dtype)
            w[np.repeat(np.arange(self.units), np.diff(indptr)), indices] = entries
        if radius is not None:
            w = w * w.dtype.type(spectrum.scale_of(w, number("spectral_radius", radius, 0)))
        self.weight_hh = Tensor(aligned(w)) if kind is tensor and not sparse else kind(w.data if sparse else w)
        self.indices, self.indptr = (tensor(indices), tensor(indptr)) if sparse else (None, None)

    def of_state(self, h: Any) -> Any:
        """W h, for each row of h."""
        if self.indices is None:
            return linear(h, self.weight_hh)
        return sparse_matmul(self.weight_hh, h, self.indices, self.indptr)

    def step(self, x: Any, h: Any) -> tuple[Any, Any]:
        """One step: h' is the output, and the next state."""
        net = linear(x, self.weight_ih, self.bias) + self.of_state(h)
        if self.noise and self.training:
            drawn = self.rng.standard_normal(h.shape, np.dtype(h.dtype).type)
            net = net + self.noise * Tensor(move(drawn, device_of(bare(h))))
        new = activation(self.nonlinearity)(net)
        h = new if self.leak is None else (1 - self.leak) * h + self.leak * new
        return h, h

    def _check_input(self, x: Any, name: str, layout: str, got: Any) -> None:
        super()._check_input(x, name, layout, got)
        w = self.weight_ih
        if x.dtype != w.dtype:
            raise TypeError(f"{name}: expected {w.dtype}, as the reservoir's weights are, got {described(got)}: "
                            f"{conversions(w.dtype, x)}")  # fmt: skip
        if device_of(bare(x)) != w.device:
            raise DeviceError(f"{name}: expected it on {w.device!r}, where the reservoir's weights are, got "
                              f"{described(got)}: move one of them, with .to(device)")  # fmt: skip

    # What it is like

    def matrix(self) -> Any:
        """W, on the host: an array, or, where it is kept sparse, SciPy's (CSR)."""
        w = self.weight_hh.numpy()
        if self.indices is None:
            return w
        parts = w, self.indices.numpy(), self.indptr.numpy()
        return sparse_arrays(np).csr_matrix(parts, shape=(self.units, self.units))

    def spectral_radius(self) -> float:
        """That of W: see :func:`~tinygrad_rnn.nn.spectral_radius`."""
        return spectrum.spectral_radius(self.matrix())

    def effective_spectral_radius(self) -> float:
        """ρ(a W + (1 - a) I): see :func:`~tinygrad_rnn.nn.effective_spectral_radius`."""
        return spectrum.effective_spectral_radius(self.matrix(), self._leak())

    def echo_state_property(self) -> EchoState:
        """Whether it forgets its first state, as far as W tells: see :func:`~tinygrad_rnn.nn.echo_state_property`."""
        return spectrum.echo_state_property(self.matrix(), self._leak(), self.nonlinearity)

    def _leak(self) -> Any:
        return 1.0 if self.leak is None else self.leak.numpy()

    def extra_repr(self) -> str:
        """Its sizes."""
        text = f"{self.input_size - self.feedback_size}, {self.units}"
        text += f", feedback_size={self.feedback_size}" if self.feedback_size else ""
        return text + ("" if self.indices is None else f", {len(self.indices)} connections")


class GroupedReservoir(Cell):
    """Reservoirs (or any cells) side by side: all hear the same input, and none another; the output is all of theirs.

    One scan runs them all: as groups of units that one readout sees; or as a batch of reservoirs, of other seeds and
    settings each, whose states :meth:`split` takes apart again.

    Parameters
    ----------
    cells : sequence of Cell
        Of one ``input_size``; each has ``units``, as reservoirs have.

    Raises
    ------
    ValueError
        They take inputs of different sizes.
    TypeError
        One is no cell that says its ``units``, or there is none.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> group = GroupedReservoir([Reservoir(1, 20, spectral_radius=r, rng=0) for r in (0.5, 0.9, 1.2)])
    >>> states, _ = nn.scan(group, np.ones((40, 2, 1)))
    >>> states.shape, [part.shape for part in group.split(states)]
    ((40, 2, 60), [(40, 2, 20), (40, 2, 20), (40, 2, 20)])
    """

    def __init__(self, cells: Sequence[Cell]):
        self.cells = checked_cells(cells)
        self.input_size = self.cells[0].input_size
        self.state_size = tuple([cell.state_size for cell in self.cells])
        self.units = sum([cell.units for cell in self.cells])
        for i, cell in enumerate(self.cells):
            if cell.input_size != self.input_size:
                raise ValueError(f"cells[{i}]: expected input_size {self.input_size}, as all hear the same input, got "
                                 f"{cell.input_size}")  # fmt: skip

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step of each: their outputs, joined, and a tuple of their states."""
        outputs, states = zip(*[cell.step(x, part) for cell, part in zip(self.cells, state)])
        return concatenate(outputs, axis=-1), states

    def split(self, states: Any) -> list:
        """The states (..., units) of each, in a list, out of those of all."""
        ends = np.cumsum([cell.units for cell in self.cells]).tolist()
        return [states[..., end - cell.units : end] for cell, end in zip(self.cells, ends)]


class DeepReservoir(GroupedReservoir):
    """Reservoirs one upon another: each hears the states of the one below (Gallicchio and Micheli, 2017).

    The output is the states of all. The lowest hears the input, and what is fed back.

    Parameters
    ----------
    cells : sequence of Cell
        The lowest first; the ``input_size`` of each other is the ``units`` of the one below.

    Raises
    ------
    ValueError
        One does not take as many inputs as there are units below.
    TypeError
        One is no cell that says its ``units``, or there is none.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> deep = DeepReservoir([Reservoir(1, 30, rng=0), Reservoir(30, 20, leak=0.5, rng=1)])
    >>> nn.scan(deep, np.ones((40, 2, 1)))[0].shape
    (40, 2, 50)
    """

    def __init__(self, cells: Sequence[Cell]):
        self.cells = checked_cells(cells)
        self.input_size = self.cells[0].input_size
        self.state_size = tuple([cell.state_size for cell in self.cells])
        self.units = sum([cell.units for cell in self.cells])
        for i, (below, cell) in enumerate(zip(self.cells, self.cells[1:]), 1):
            if cell.input_size != below.units:
                raise ValueError(f"cells[{i}]: expected input_size {below.units}, as it hears the units below, got "
                                 f"{cell.input_size}")  # fmt: skip

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step of each, from the lowest up: their outputs, joined, and a tuple of their states."""
        outputs, states = [], []
        for cell, part in zip(self.cells, state):
            x, part = cell.step(x, part)
            outputs.append(x)
            states.append(part)
        return concatenate(outputs, axis=-1), tuple(states)


# What is given --------------------------------------------------------------------------------------------------------


def drawing(distribution: str) -> Callable:
    """What draws weights, of about the size 1."""
    kinds: dict[str, Callable] = {
        "uniform": lambda rng, shape: rng.uniform(-1, 1, shape),
        "normal": lambda rng, shape: rng.standard_normal(shape),
        "bernoulli": lambda rng, shape: rng.choice([-1.0, 1.0], shape),
    }
    if not isinstance(distribution, str) or distribution not in kinds:
        raise ValueError(f"distribution: expected one of {', '.join(map(repr, kinds))}, got {distribution!r}")
    return kinds[distribution]


def rows_of(matrix: Any, units: int, dtype: Any) -> tuple:
    """A matrix that was given, by rows."""
    try:
        w = spectrum.square(bare(matrix)).astype(dtype)
    except ValueError as error:
        raise ValueError(f"topology: {error}") from None
    if w.shape != (units, units):
        raise ValueError(f"topology: expected a matrix {(units, units)}, as there are {units} units, got {w.shape}")
    if isinstance(w, np.ndarray):
        i, j = w.nonzero()
        entries, indices, indptr = w[i, j], j, np.concatenate([[0], (w != 0).sum(axis=1).cumsum()])
    else:
        entries, indices, indptr = w.data, w.indices, w.indptr
    if not np.isfinite(entries).all():
        raise ValueError("topology: expected finite numbers, got NaN or infinity")
    return entries, indices, indptr


def aligned(w: np.ndarray) -> np.ndarray:
    """A copy whose memory begins at a multiple of 64 bytes: products with vectors take up to a fifth less time."""
    room = np.empty(w.nbytes + 64, np.uint8)
    start = -room.__array_interface__["data"][0] % 64
    copy = room[start : start + w.nbytes].view(w.dtype).reshape(w.shape)
    copy[...] = w
    return copy


def checked_cells(cells: Sequence[Cell]) -> list[Cell]:
    cells = [*cells]
    if not cells or not all(isinstance(cell, Cell) and hasattr(cell, "units") for cell in cells):
        raise TypeError(f"cells: expected a list of reservoirs, got {described(cells)}")
    return cells


def dtype_of(cell: Cell) -> np.dtype:
    """The dtype of a cell's weights: what its inputs have to be."""
    return next((w.dtype for w in cell.state_dict().values() if w.dtype.kind == "f"), np.dtype(float))


def scaled(name: str, scaling: Any, features: int) -> list[float]:
    """A scaling for each feature."""
    found = np.asarray(scaling, float)
    if found.shape not in ((), (features,)) or not np.isfinite(found).all():
        raise ValueError(f"{name}: expected a finite number, or {features} of them, got {described(scaling)}")
    return np.broadcast_to(found, (features,)).tolist()


def fraction(name: str, value: Any) -> float:
    found = number(name, value, 0)
    if not 0 < found <= 1:
        raise ValueError(f"{name}: expected a number above 0, to 1, got {value!r}")
    return found


def number(name: str, value: Any, least: float = -np.inf) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = np.nan
    if not (np.isfinite(found) and found >= least):
        limit = "" if least == -np.inf else f", at least {least}"
        raise ValueError(f"{name}: expected a finite number{limit}, got {described(value)}")
    return found
