"""Layers of cells: any cells, stacked, in one direction or both.

A layer is a :func:`~tinygrad_rnn.scan`; here is only what lies between the scans. Nothing remembers a state: it is
returned, and to go on from it one hands it back. PyTorch's networks, by its names, are in ``networks.py``.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

from .. import trees
from ..arrays import device_of, has_gradient, is_array, move
from ..debug import label, users_level
from ..errors import AnomalyError, StateError, described, whole
from ..modes import no_grad
from ..ops import broadcast_to, concatenate, swapaxes, where
from ..tensor import Tensor, bare, tensor
from .cells import Cell
from .dropout import Dropout
from .module import Module, Parameter
from .recurrent import flags, mask_of, number, scan
from .segments import checkpointed
from .watch import under
from .wrappers import Wrapper, innermost, within


class Recurrent(Module):
    """Layers of any cells: each layer runs over the outputs of the one below.

    Parameters
    ----------
    cells : Cell or list of Cell
        A cell, or several, the lowest first: of any kinds and sizes that fit.
    bidirectional : Cell or list of Cell, optional
        The cells that run from the end to the beginning, one for each layer: their outputs are joined behind those of
        the others, on the last axis. A padded sequence starts at its own end.
    residual : bool or "dense", optional
        True: each layer but the first adds its input to its output. ``"dense"``: a layer gets the outputs of all layers
        below, and x, joined.
    batch_first : bool, optional
        Whether x and the output (with them mask, reset, and the states of all steps) are (batch, time, ...) instead of
        (time, batch, ...). States are (batch, ...) in any case.
    dropout : float, optional
        How much of the input of each layer but the first is dropped (:class:`~tinygrad_rnn.nn.Dropout`), while it is
        trained.
    learned_state : bool, optional
        Whether the states to start from are parameters (:class:`~tinygrad_rnn.nn.LearnedState`), and not zeros.
        Wrappers are copied for it, as it stands within them: those of the network are in its ``layers``.
    rng : int or Generator, optional
        For the dropout.
    checkpoint : bool or int, optional
        Whether of each layer's tape only the states between segments are kept, and the rest is computed again on the
        way back: see :func:`~tinygrad_rnn.bptt.checkpointed`. True: segments of √time steps; a number: of so many.
    compiled : bool or "auto", optional
        As of :func:`~tinygrad_rnn.scan`.

    Raises
    ------
    ValueError
        The cells do not fit together: of other sizes, or not as many in both directions; or ``residual`` is none of
        these.
    TypeError
        There is something else than cells among them.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> model = Recurrent([nn.LSTMCell(3, 8, rng=0), nn.GRUCell(16, 5, rng=1)],
    ...                   bidirectional=[nn.LSTMCell(3, 8, rng=2), nn.GRUCell(16, 5, rng=3)])
    >>> output, state = model(np.ones((7, 2, 3), np.float32), lengths=[7, 4])
    >>> output.shape, [[described(s) for s in layer] for layer in state][1]
    ((7, 2, 10), ['float32 (2, 5)', 'float32 (2, 5)'])
    """

    def __init__(
        self, cells: Any, bidirectional: Any = False, residual: Any = False, batch_first: bool = False,
        dropout: float = 0.0, learned_state: bool = False, rng: Any = None, checkpoint: bool | int = False,
        compiled: Any = "auto",
    ):  # fmt: skip
        if bidirectional is True:
            raise ValueError("bidirectional: expected the cells that run backward, as their weights are their own: "
                             "Recurrent(cells, bidirectional=backward_cells)")  # fmt: skip
        if residual not in (False, True, "dense"):
            raise ValueError(f"residual: expected False, True or 'dense', got {residual!r}")
        directions = {"forward": listed("cells", cells)}
        if bidirectional is not False:
            directions["backward"] = listed("bidirectional", bidirectional)
            if len(directions["backward"]) != len(directions["forward"]):
                raise ValueError(f"bidirectional: expected {len(directions['forward'])} cells, one for each layer, got "
                                 f"{len(directions['backward'])}")  # fmt: skip
        self.residual, self.batch_first = "dense" if residual == "dense" else bool(residual), batch_first
        is_flag = isinstance(checkpoint, (bool, np.bool_))
        self.compiled = checked_mode(compiled)
        self.checkpoint = bool(checkpoint) if is_flag else whole("checkpoint", checkpoint, 1)
        if learned_state:
            directions = {name: [within(cell, LearnedState) for cell in cells] for name, cells in directions.items()}
        self.layers = [dict(zip(directions, layer)) for layer in zip(*directions.values())]
        self.dropout = Dropout(dropout, rng=rng)
        if dropout and len(self.layers) == 1:
            warnings.warn("dropout: it acts between layers, and there is only one", stacklevel=users_level())
        self._check_sizes()

    def _check_sizes(self) -> None:
        """That each layer takes as many features as come from below, as far as the cells say how many they take."""
        sizes = [cell.input_size for cell in self.layers[0].values() if cell.input_size is not None]
        below = sizes[0] if sizes else None
        for i, layer in enumerate(self.layers):
            for direction, cell in layer.items():
                if below is not None and cell.input_size not in (None, below):
                    raise ValueError(f"layer {i}, {direction}: {type(cell).__name__}: expected input_size {below}, as "
                                     f"it gets that many features, got {cell.input_size}")  # fmt: skip
            outputs = [output_size(cell) for cell in layer.values()] if len(self.layers) > 1 else [None]
            output = None if None in outputs else sum(outputs)
            if i and self.residual is True and None not in (below, output) and below != output:
                raise ValueError(f"layer {i}: residual: expected {below} features of its output, as of its input, got "
                                 f"{output}")  # fmt: skip
            below = output if self.residual != "dense" else None if None in (below, output) else below + output

    def forward(
        self, x: Any, state: Any = None, *, lengths: Any = None, mask: Any = None, reset: Any = None,
        states: bool = False, pad_value: float = 0,
    ) -> tuple:  # fmt: skip
        """The outputs of the last layer, and the last state of each.

        Parameters
        ----------
        x : array or Tensor, (time, batch, features) or (time, features)
            The inputs.
        state : list, optional
            What the layers start from: a list of states, or of pairs of states (forward, backward), one for each layer,
            as they are returned. None: what the cells say.
        lengths, mask, reset : array, optional
            As of :func:`~tinygrad_rnn.scan`.
        states : bool, optional
            Whether to return, too, all states of each layer.
        pad_value : float, optional
            The number that the outputs hold where a sequence has no input.

        Returns
        -------
        output : Tensor, (time, batch, features)
            The outputs of the last layer.
        state : list
            The last state of each layer, or a pair of them.
        states : list
            If asked for: all states of each layer, in the same list, with an axis of time.

        Raises
        ------
        StateError
            ``state`` is not a list of as many states as there are layers.
        ValueError
            ``lengths``, ``mask`` or ``reset`` do not fit to x.
        TypeError
            x is no array, or has no axis of time.
        """
        batched = self._checked(x).ndim > 2
        if not batched and not (lengths is None and mask is None and reset is None):
            raise ValueError(f"lengths, mask, reset: {type(self).__name__}: x has no batch axis, {self._layout}: it is "
                             f"{described(x)}")  # fmt: skip
        swap = self._swapped if batched else lambda part: part
        xs, pad_value = swap(x), number(pad_value)
        mask = mask_of(lengths, mask, xs, self.batch_first)
        reset = flags("reset", reset, xs, self.batch_first)
        last, every = [], []
        for i, start in enumerate(self._by_layer(state)):
            inputs = self.dropout(xs) if i else xs
            output, *results = self._run(i, inputs, start, mask=mask, reset=reset, states=states)
            if self.residual is True and i:
                output = xs + output
            xs = concatenate([xs, output], axis=-1) if self.residual == "dense" else output
            for found, kept in zip((last, every), results):
                found.append(kept)
        if pad_value and mask is not None:
            there = move(mask, device_of(bare(output)))
            output = where(there[..., None], output, pad_value)
        return (swap(output), last, trees.map(swap, every)) if states else (swap(output), last)

    @property
    def bidirectional(self) -> bool:
        """Whether each layer has a second cell, which runs backward."""
        return len(self.layers[0]) > 1

    def carried(self, state: Any, step: int | None = None, batched: bool = True) -> Any:
        """What the next window of a sequence starts from, if ``state`` is what was returned for the one before it.

        The forward directions go on from there. The backward ones, which come from the other side, begin anew: from
        what their cells start from.

        Parameters
        ----------
        state : list or Tensor or tuple of Tensor
            What was returned for the window before.
        step : int, optional
            Where the next window begins earlier: state is that of all steps (``states=True``), and this the last step
            before.
        batched : bool, optional
            Whether x has an axis of sequences.

        Returns
        -------
        list or Tensor or tuple of Tensor
            The state to start from, laid out as it was.
        """
        if step is not None:
            time = self.time_of_states + (self.batch_first and batched)
            state = trees.map(lambda s: s[(slice(None),) * time + (step,)], state)
        return self._forward_only(state) if self.bidirectional and state is not None else state

    time_of_states = 0  # the axis of time in what states=True returns, if x is time first

    def _forward_only(self, state: Any) -> Any:
        return [(there, None) for there, _ in self._by_layer(state)]

    def _run(self, i: int, xs: Any, start: tuple, **options: Any) -> tuple:
        """What the scan of a layer returns; of both directions, the outputs joined, and the rest in pairs."""
        ran, every = [], None if self.checkpoint is True else self.checkpoint
        run = partial(checkpointed, every=every) if self.checkpoint else scan
        for (direction, cell), state in zip(self.layers[i].items(), start):
            with label("layer", i, direction), under(f"layers.{i}.{direction}."):
                try:
                    reverse = direction == "backward"
                    ran.append(run(cell, xs, state, reverse=reverse, compiled=self.compiled, **options))
                except AnomalyError:  # which says so itself
                    raise
                except Exception as error:
                    error.add_note(f"in layer {i}, {direction}, of {type(self).__name__}, of which x is {self._layout}")
                    raise
        if len(ran) == 1:
            return ran[0]
        outputs, *results = zip(*ran)
        return concatenate(outputs, axis=-1), *results

    def _checked(self, x: Any) -> Any:
        if not is_array(bare(x)) or x.ndim < 2:
            raise TypeError(f"{type(self).__name__}: x: expected {self._layout}, got {described(x)}")
        return x

    @property
    def _layout(self) -> str:
        return "(batch, time, features)" if self.batch_first else "(time, batch, features)"

    def _swapped(self, x: Any) -> Any:
        return swapaxes(x, 0, 1) if self.batch_first else x

    def _by_layer(self, state: Any) -> list:
        """The states to start from: for each layer one, or two."""
        n, both = len(self.layers), len(self.layers[0]) > 1
        if state is None:
            return [(None, None)] * n
        if not isinstance(state, (list, tuple)) or len(state) != n:
            raise StateError(f"{type(self).__name__}: state: expected a list with the state of each layer, {n} in all, "
                             f"got {described(state)}")  # fmt: skip
        if not both:
            return [(s,) for s in state]
        for i, s in enumerate(state):
            if s is not None and (not isinstance(s, (list, tuple)) or len(s) != 2):
                raise StateError(f"{type(self).__name__}: state[{i}]: expected a pair of states, (forward, backward), "
                                 f"got {described(s)}")  # fmt: skip
        return [(None, None) if s is None else s for s in state]

    def extra_repr(self) -> str:
        """Its settings."""
        said = {"residual": self.residual, "batch_first": self.batch_first, "checkpoint": self.checkpoint}
        return ", ".join(f"{name}={value!r}" for name, value in said.items() if value)


class LearnedState(Wrapper):
    """A cell whose first state is learned: a parameter for each tensor of the state, the same for every sequence.

    They are at first what the cell itself would start from: zeros, as a rule; ``first`` holds them, nested as the state
    is. A wrapper that remembers something itself, such as masks, belongs around it, not in it.

    Parameters
    ----------
    cell : Cell
        Any cell that says its ``input_size``.

    Raises
    ------
    ValueError
        The cell does not say its ``input_size``, or remembers more than the cell that it wraps.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> cell = LearnedState(nn.LSTMCell(3, 4, rng=0))
    >>> [p.shape for p in cell.first]
    [(4,), (4,)]
    """

    is_home = True

    def __init__(self, cell: Cell):
        super().__init__(cell)
        if (x := example(cell)) is None:
            raise ValueError(f"LearnedState: {type(cell).__name__}: set its input_size: an input is needed to see what "
                             "its state is like")  # fmt: skip
        first, own = cell.initial_state(x), innermost(cell).initial_state(x)
        if [p.shape for p in trees.flatten(first)[0]] != [p.shape for p in trees.flatten(own)[0]]:
            raise ValueError(f"LearnedState: {type(cell).__name__} remembers more than the cell that it wraps: put it "
                             f"around, {type(cell).__name__}(LearnedState(cell), ...)")  # fmt: skip
        self.first = trees.map(lambda part: learned(bare(part)[0]), first)
        self.state_size, self.state_names = cell.state_size, cell.state_names

    def initial_state(self, x: Any) -> Any:
        """What was learned, for each sequence of x."""
        return trees.map(lambda p: broadcast_to(p, (*x.shape[:-1], *p.shape)), self.first)


def learned(part: Any) -> Tensor:
    """A parameter; of integers, such as a clock, a constant."""
    return Parameter(part) if has_gradient(part.dtype) else tensor(part)


def checked_mode(compiled: Any) -> Any:
    from ..compile import checked  # which knows cells: it is asked for when it is needed

    return checked(compiled)


def listed(name: str, cells: Any) -> list[Cell]:
    cells = list(cells) if isinstance(cells, (list, tuple)) else [cells]
    for i, cell in enumerate(cells):
        if not isinstance(cell, Cell):
            raise TypeError(f"{name}: expected a Cell, or a list of them, got {described(cell)} at [{i}]")
    if not cells:
        raise ValueError(f"{name}: expected at least one cell, got none")
    return cells


def example(cell: Cell) -> Any:
    """An input that the cell takes: zeros, one sequence; None, if it does not say how many features it takes."""
    if cell.input_size is None:
        return None
    p = next(cell.parameters(), None)
    zeros = np.zeros((1, cell.input_size), np.float32 if p is None else p.dtype)
    return zeros if p is None else move(zeros, p.device)


def output_size(cell: Cell) -> int | None:
    """How many features the cell's output has: one step is made, and nothing is drawn. None: it cannot be known."""
    if (x := example(cell)) is None:
        return None
    modes = {module: module.training for module in cell.modules()}
    cell.eval()
    try:
        with no_grad():
            return cell(x)[0].shape[-1]
    finally:
        for module, mode in modes.items():
            module.training = mode
