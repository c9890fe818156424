"""PyTorch's three networks, by its names: :class:`~tinygrad_rnn.nn.RNN`, :class:`~tinygrad_rnn.nn.LSTM` and
:class:`~tinygrad_rnn.nn.GRU`.

They are :class:`~tinygrad_rnn.nn.Recurrent` nets of cells of one kind and size, in PyTorch's layouts, and with the
names of its weights; all that they compute is there, and in their cells.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import trees
from ..errors import StateError, described, whole
from ..ops import unstack
from ..tensor import Tensor
from .cells import Cell, GRUCell, LSTMCell, RNNCell
from .layers import Recurrent
from .recurrent import stacked
from .wrappers import innermost


class Uniform(Recurrent):
    """Layers of one kind and size, with PyTorch's names, shapes and layouts: the base of :class:`RNN` and the others.

    A state is (layers · directions, batch, features), each layer's forward before its backward; batch_first does not
    concern it. The weights are ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``, ``bias_hh_l0``,
    ``weight_ih_l0_reverse``, ...: a ``state_dict`` of PyTorch's module can be loaded, and the other way round. (What
    PyTorch's do not have is not in its names: with learned_state there are ``h0_l0``, ``c0_l0``, ..., too.)
    """

    def __init__(
        self, make: Callable[..., Cell], input_size: int, hidden_size: int, num_layers: int, bidirectional: bool,
        batch_first: bool, dropout: float, rng: Any, residual: Any = False, learned_state: bool = False,
        checkpoint: bool | int = False, compiled: Any = "auto", **keywords: Any,
    ):  # fmt: skip
        if not isinstance(bidirectional, (bool, np.bool_)):
            raise ValueError(f"bidirectional: expected True or False, got {bidirectional!r}")
        num_layers, hidden_size = whole("num_layers", num_layers, 1), whole("hidden_size", hidden_size, 1)
        rng, directions = np.random.default_rng(rng), 1 + bool(bidirectional)
        output = (keywords.get("proj_size") or hidden_size) * directions
        below = [input_size + i * output if isinstance(residual, str) else output for i in range(num_layers)]
        cells = [
            [make(size, hidden_size, rng=rng, **keywords) for _ in range(directions)]
            for size in [input_size, *below[1:]]
        ]
        forward, *backward = map(list, zip(*cells))
        super().__init__(
            forward, *backward, residual=residual, batch_first=batch_first, dropout=dropout,
            learned_state=learned_state, rng=rng, checkpoint=checkpoint, compiled=compiled,
        )  # fmt: skip

    def forward(self, x: Any, state: Any = None, **options: Any) -> tuple:
        """The outputs of the last layer, and the last states.

        Parameters
        ----------
        x : array or Tensor
            (time, batch, features); (batch, time, features) with batch_first; or (time, features), one sequence.
        state : Tensor or tuple of Tensor, (layers · directions, batch, features), optional
            h0, or (h0, c0), to start from; zeros by default.
        **options
            ``lengths``, ``mask``, ``reset`` and ``pad_value``, as of :func:`~tinygrad_rnn.scan`; ``states``: whether
            to return, too, all states.

        Returns
        -------
        output : Tensor, (time, batch, directions · features)
            The outputs of the last layer; (batch, time, ...) with batch_first.
        state : Tensor or tuple of Tensor, (layers · directions, batch, features)
            The last states.
        states : Tensor or tuple of Tensor, (layers · directions, time, batch, features)
            All states, if they were asked for.

        Raises
        ------
        StateError
            ``state`` has not this layout.
        """
        state = state if state is None else self._parted(state, x)
        output, *states = super().forward(x, state, **options)
        return (output, *[self._joined(s) for s in states])

    def _joined(self, states: list) -> Any:
        return stacked(states if len(self.layers[0]) == 1 else [s for both in states for s in both])

    time_of_states = 1

    def _forward_only(self, state: Any) -> Any:
        n = len(self.layers) * len(self.layers[0])
        for name, size, part in self._named(state):
            shape = getattr(part, "shape", ())
            if len(shape) not in (2, 3) or (shape[0], shape[-1]) != (n, size):
                kind = type(self).__name__
                raise StateError(f"{kind}.carried: {name}: expected what the network returned, ({n}, ..., {size}), got "
                                 f"{described(part)}; where it is in a nest of one's own, the module around it has a "
                                 "method carried of its own, which takes it out")  # fmt: skip

        def start(cell: Cell, like: Any) -> Any:
            return cell.initial_state(trees.flatten(like)[0][0])

        return self._joined([(there, start(layer["backward"], there))
                             for layer, (there, _) in zip(self.layers, self._by_direction(state))])  # fmt: skip

    def _by_direction(self, state: Any) -> list:
        several = isinstance(self.layers[0]["forward"].state_size, tuple)
        by_cell = list(zip(*map(unstack, state))) if several else list(unstack(state))
        return list(zip(by_cell[::2], by_cell[1::2])) if self.bidirectional else by_cell

    def _parted(self, state: Any, x: Any) -> list:
        """The states of the layers, checked to be of this layout."""
        n = len(self.layers) * len(self.layers[0])
        batch = self._swapped(x).shape[1:-1] if self._checked(x).ndim > 2 else ()
        for name, size, part in self._named(state):
            if getattr(part, "shape", None) != (n, *batch, size):
                kind = type(self).__name__
                raise StateError(f"{kind}: {name}: expected {(n, *batch, size)}, (layers · directions, batch, features)"
                                 f", batch_first or not; got {described(part)}")  # fmt: skip
        return self._by_direction(state)

    def _named(self, state: Any) -> list[tuple[str, int, Any]]:
        """The parts of a state, each with its name and its number of features."""
        sizes = self.layers[0]["forward"].state_size
        several = isinstance(sizes, tuple)
        parts, sizes = (state, sizes) if several else ([state], [sizes])
        if not isinstance(parts, (tuple, list)) or len(parts) != len(sizes):
            raise StateError(f"{type(self).__name__}: state: needs (h0, c0), got {described(state)}")
        return list(zip(("h0", "c0"), sizes, parts))

    # Its weights, under PyTorch's names

    def _walk(self, prefix: str = "", above: tuple = ()) -> Iterator:
        def outside(found: re.Match) -> str:
            name = LEARNED.get(found[3], found[3])
            return f"{name}_l{found[1]}" + "_reverse" * (found[2] == "backward")

        for name, x in super()._walk(prefix, above):
            yield INSIDE.sub(outside, name) if isinstance(x, Tensor) else name, x

    def _place(self, name: str) -> tuple[Cell, str] | None:
        """The cell that has the weight of that name, and its name there."""
        found = OUTSIDE.fullmatch(name)
        if found is None or int(found[2]) >= len(vars(self).get("layers", ())):
            return None
        cell = innermost(self.layers[int(found[2])].get("backward" if found[3] else "forward"))
        return None if getattr(cell, found[1], None) is None else (cell, found[1])

    def __getattr__(self, name: str) -> Any:
        if (place := self._place(name)) is not None:
            return getattr(*place)
        if STATE.fullmatch(name) and name in (found := dict(self._walk(""))):
            return found[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if (place := self._place(name)) is not None:
            setattr(*place, value)
        elif OUTSIDE.fullmatch(name):
            raise AttributeError(f"{type(self).__name__}: {name}: there is no such weight in it, and nothing would use "
                                 "it: bias, num_layers, bidirectional and proj_size say which there are")  # fmt: skip
        elif STATE.fullmatch(name):
            raise AttributeError(f"{type(self).__name__}: {name}: learned_state says whether there is one; to give it "
                                 f"other values: model.{name}.data = array")  # fmt: skip
        else:
            super().__setattr__(name, value)

    def extra_repr(self) -> str:
        """Its sizes and settings."""
        cell = innermost(self.layers[0]["forward"])
        return ", ".join([f"{cell.input_size}, {cell.hidden_size}", *filter(None, [super().extra_repr()])])


INSIDE = re.compile(r"layers\.(\d+)\.(forward|backward)\.(?:cell\.)?(\w+(?:\.\d)?)$")
LEARNED = {"first": "h0", "first.0": "h0", "first.1": "c0"}  # the names of learned states
STATE = re.compile(r"[hc]0_l\d+(_reverse)?")
OUTSIDE = re.compile(r"((?:weight|bias)_(?:ih|hh|hr))_l(\d+)(_reverse)?")


class RNN(Uniform):
    """Layers of :class:`~tinygrad_rnn.nn.RNNCell`, as ``torch.nn.RNN``.

    A state is (layers · directions, batch, features), each layer's forward before its backward; batch_first does not
    concern it. The weights are ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``, ``bias_hh_l0``,
    ``weight_ih_l0_reverse``, ...: a ``state_dict`` of PyTorch's module can be loaded, and the other way round. (With
    ``learned_state`` there are ``h0_l0``, ..., too, which PyTorch does not have.)

    Parameters
    ----------
    input_size, hidden_size : int
        The numbers of features of x, and of units of each layer (in each direction).
    num_layers : int, optional
        How many layers.
    nonlinearity : str or callable, optional
        As of :class:`~tinygrad_rnn.nn.RNNCell`.
    bias : bool, optional
        Whether the cells have biases.
    batch_first : bool, optional
        Whether x and the outputs are (batch, time, ...), as of :class:`~tinygrad_rnn.nn.Recurrent`.
    dropout : float, optional
        How much of the input of each layer but the first is dropped, while it is trained.
    bidirectional : bool, optional
        Whether each layer has a second cell, which runs backward.
    rng : int or Generator, optional
        For the weights, and the dropout.
    dtype : dtype, optional
        Of the weights.
    **keywords
        ``residual``, ``learned_state``, ``checkpoint`` and ``compiled``, as of :class:`~tinygrad_rnn.nn.Recurrent`.

    Raises
    ------
    ValueError
        ``bidirectional`` is neither True nor False: the cells are made here.

    Examples
    --------
    >>> model = RNN(3, 4, num_layers=2, rng=0)
    >>> output, h = model(np.ones((7, 2, 3), np.float32))
    >>> output.shape, h.shape
    ((7, 2, 4), (2, 2, 4))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *, rng: Any = None,
        dtype: Any = np.float32, **keywords: Any,
    ):  # fmt: skip
        super().__init__(
            RNNCell, input_size, hidden_size, num_layers, bidirectional, batch_first, dropout, rng, bias=bias,
            nonlinearity=nonlinearity, dtype=dtype, **keywords,
        )  # fmt: skip


class LSTM(Uniform):
    """Layers of :class:`~tinygrad_rnn.nn.LSTMCell`, as ``torch.nn.LSTM``.

    Its state is (h, c); states and weights are laid out, and called, as those of :class:`~tinygrad_rnn.nn.RNN`.

    Parameters
    ----------
    input_size, hidden_size : int
        The numbers of features of x, and of units of each layer (in each direction).
    num_layers : int, optional
        How many layers.
    bias : bool, optional
        Whether the cells have biases.
    batch_first : bool, optional
        Whether x and the outputs are (batch, time, ...), as of :class:`~tinygrad_rnn.nn.Recurrent`.
    dropout : float, optional
        How much of the input of each layer but the first is dropped, while it is trained.
    bidirectional : bool, optional
        Whether each layer has a second cell, which runs backward.
    proj_size : int, optional
        If not 0, the outputs are projected to so many features, as of :class:`~tinygrad_rnn.nn.LSTMCell`.
    rng : int or Generator, optional
        For the weights, and the dropout.
    dtype : dtype, optional
        Of the weights.
    **keywords
        ``forget_bias`` and ``forget_identity``, as of :class:`~tinygrad_rnn.nn.LSTMCell`; ``residual``,
        ``learned_state``, ``checkpoint`` and ``compiled``, as of :class:`~tinygrad_rnn.nn.Recurrent`.

    Raises
    ------
    ValueError
        ``bidirectional`` is neither True nor False: the cells are made here.

    Examples
    --------
    >>> model = LSTM(3, 4, bidirectional=True, rng=0)
    >>> output, (h, c) = model(np.ones((7, 2, 3), np.float32), lengths=[7, 5])
    >>> output.shape, h.shape, c.shape
    ((7, 2, 8), (2, 2, 4), (2, 2, 4))
    >>> [name for name in model.state_dict()][3:5]
    ['bias_hh_l0', 'weight_ih_l0_reverse']
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, *, rng: Any = None,
        dtype: Any = np.float32, **keywords: Any,
    ):  # fmt: skip
        super().__init__(
            LSTMCell, input_size, hidden_size, num_layers, bidirectional, batch_first, dropout, rng, bias=bias,
            proj_size=proj_size, dtype=dtype, **keywords,
        )  # fmt: skip


class GRU(Uniform):
    """Layers of :class:`~tinygrad_rnn.nn.GRUCell`, as ``torch.nn.GRU``.

    States and weights are laid out, and called, as those of :class:`~tinygrad_rnn.nn.RNN`.

    Parameters
    ----------
    input_size, hidden_size : int
        The numbers of features of x, and of units of each layer (in each direction).
    num_layers : int, optional
        How many layers.
    bias : bool, optional
        Whether the cells have biases.
    batch_first : bool, optional
        Whether x and the outputs are (batch, time, ...), as of :class:`~tinygrad_rnn.nn.Recurrent`.
    dropout : float, optional
        How much of the input of each layer but the first is dropped, while it is trained.
    bidirectional : bool, optional
        Whether each layer has a second cell, which runs backward.
    reset_after : bool, optional
        Where the reset gate acts, as of :class:`~tinygrad_rnn.nn.GRUCell`.
    rng : int or Generator, optional
        For the weights, and the dropout.
    dtype : dtype, optional
        Of the weights.
    **keywords
        ``update_gate`` and ``update_bias``, as of :class:`~tinygrad_rnn.nn.GRUCell`; ``residual``, ``learned_state``,
        ``checkpoint`` and ``compiled``, as of :class:`~tinygrad_rnn.nn.Recurrent`.

    Raises
    ------
    ValueError
        ``bidirectional`` is neither True nor False: the cells are made here.
    TypeError
        There is a ``proj_size``: only an LSTM has a projection.

    Examples
    --------
    >>> output, h = GRU(3, 4, batch_first=True, rng=0)(np.ones((2, 7, 3), np.float32))
    >>> output.shape, h.shape
    ((2, 7, 4), (1, 2, 4))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, reset_after: bool = True, *, rng: Any = None,
        dtype: Any = np.float32, **keywords: Any,
    ):  # fmt: skip
        if "proj_size" in keywords:
            raise TypeError("GRU: proj_size: only an LSTM has a projection; put a Linear after the layers")
        super().__init__(
            GRUCell, input_size, hidden_size, num_layers, bidirectional, batch_first, dropout, rng, bias=bias,
            reset_after=reset_after, dtype=dtype, **keywords,
        )  # fmt: skip
