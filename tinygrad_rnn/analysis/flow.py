"""The flow of a gradient back through time: how large it is at each state, and at each gate, of each layer.

Nothing is derived here: it is what the tape gives with regard to what the scans of a model's cells show.
"""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .. import trees
from ..arrays import has_gradient
from ..bptt import checked_loss
from ..compile import compiled
from ..errors import ShapeError, described
from ..nn import Cell, Module
from ..nn.recurrent import drawn_from
from ..nn.watch import watching_scans
from ..ops.checkpoint import drawn_again
from ..plotting import axes, log_line
from ..show import tape
from ..tensor import Tensor
from ..transforms import pulled, recording
from . import given
from .steps import host, named, norms

SHOWN = 8  # lines in a figure: where there would be more, only those of the states


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """The norms of the gradients of a loss, at each step, by name.

    Parameters
    ----------
    loss : float
        The loss.
    norms : dict of arrays, (time, batch)
        ‖∂L/∂v_t‖ of each sequence, for each v that was seen. Before its name is where in the model the cell is, as
        before the names of its weights: ``"encoder.layers.0.forward.state"``; ``"state"`` of a model that is a cell.
        ``"state[0]"``, ``"state[1]"`` where a state is a tuple; gates as the cell calls them. Where a cell was run over
        several sequences, one call after another, ``"state (2)"`` is of the second. NaN, where a step was not computed;
        inf, where the gradient is more than its dtype holds.
    states, gates : tuple of str
        Which of the names are tensors of a state; and which are something else. What is a tensor of the state under a
        name of its own, such as c of an LSTM, which is ``"state[1]"``, is in neither.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import nn
    >>> cell, xs = nn.GRUCell(3, 8, rng=0), np.ones((50, 4, 3), np.float32)
    >>> flow = gradient_flow(cell, lambda cell, xs: tg.scan(cell, xs)[0][-1].sum(), xs)
    >>> flow.states, flow.gates, round(sum(flow.share.values()), 6)
    (('state',), ('r', 'z', 'n'), 1.0)
    """

    loss: float
    norms: dict[str, np.ndarray]
    states: tuple[str, ...]
    gates: tuple[str, ...]

    def rms(self, name: str) -> np.ndarray:
        """The root mean square of the norms over the batch.

        Where sequences differ in length, it is of other sequences at each step: to compare the first step with the
        last one, take :meth:`ratio`.

        Parameters
        ----------
        name : str
            One of the names.

        Returns
        -------
        array, (time,)
            NaN, where a step was not computed.
        """
        values = named(self.norms, name)
        return norms(values, 1) / np.sqrt(max(1, values.shape[1]))

    def ratio(self, name: str) -> np.ndarray:
        """The norm at the first step over that at the last one that the loss depends on, of each sequence by itself.

        It is what is left of the gradient, when it has come from the end of a sequence to its beginning. In a scan that
        is reversed the beginning is the last step, and what is left 1 / ratio.

        Parameters
        ----------
        name : str
            One of the names.

        Returns
        -------
        array, (batch,)
            NaN, where the loss does not depend on the sequence.

        Examples
        --------
        >>> from tinygrad_rnn import nn
        >>> cell, xs = nn.RNNCell(1, 1, nonlinearity="linear", rng=0, dtype=np.float64), np.ones((5, 2, 1))
        >>> cell.weight_hh.data = np.array([[0.1]])
        >>> flow = gradient_flow(cell, lambda cell, xs: nn.scan(cell, xs, lengths=[5, 3])[1].sum(), xs)
        >>> flow.ratio("state").round(9)
        array([0.0001, 0.01  ])
        """
        columns = [column[~np.isnan(column)] for column in named(self.norms, name).T]
        ends = [(column[0], column[column > 0][-1]) if (column > 0).any() else (np.nan, np.nan) for column in columns]
        with np.errstate(invalid="ignore"):
            return np.array([first / last for first, last in ends])

    @property
    def share(self) -> dict[str, float]:
        """Of each gate, its part of the squared norm of all gates of that cell in that scan, over all steps."""
        sizes = {name: float(norms(np.nan_to_num(self.norms[name], posinf=np.inf), 0)) for name in self.gates}
        groups = {place(name): [sizes[n] for n in sizes if place(n) == place(name)] for name in sizes}
        totals = {name: float(norms(np.array(group), 0)) for name, group in groups.items()}
        return {n: (size / totals[place(n)]) ** 2 if totals[place(n)] else 0.0 for n, size in sizes.items()}

    def plot(self, ax: Any = None, names: Any = None) -> Any:
        """Draw the norms over time on a logarithmic scale, a line for each name: the rms over the batch.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            What to draw on; by default new ones.
        names : sequence of str, optional
            What to draw; by default the states, and the gates, if they are few.

        Returns
        -------
        matplotlib Axes
            Those.
        """
        if names is None:
            names = self.states + (self.gates if len(self.states + self.gates) <= SHOWN else ())
        lines = {name: self.rms(name) for name in ([names] if isinstance(names, str) else names)}
        ax = axes(ax)
        for i, (name, values) in enumerate(lines.items()):
            style = "-" if name in self.states else "--"
            log_line(ax, np.arange(len(values)), values, style, color=f"C{i % 10}", label=name)
        ax.set(xlabel="step $t$", ylabel="norm of $\\partial L/\\partial v_t$", title="The gradient, back through time")
        ax.legend(fontsize="small")
        return ax

    def __repr__(self) -> str:
        lines = [f"GradientFlow: loss {self.loss:.4g}; norms at the first and the last step"]
        share, width = self.share, max(map(len, self.norms))
        for name in self.norms:
            values = self.rms(name)
            values = values[~np.isnan(values)]
            ends = f"{values[0]:9.2e}  {values[-1]:9.2e}" if len(values) else ""
            lines.append(f"  {name:<{width}}  {ends}" + (f"  share {share[name]:.2f}" if name in share else ""))
        return "\n".join(lines)


def gradient_flow(model: Module, loss: Callable, batch: Any) -> GradientFlow:
    """The gradients of a loss with regard to all states and gates of a model's cells, over time.

    The model is run on the tape, however it is compiled, in the mode that it is in; its parameters, their ``.grad`` and
    its random generators are afterwards as they were. The gradient with regard to a state is the whole one::

        ∂L/∂s_t = ∂L_t/∂s_t + (∂s_{t+1}/∂s_t)ᵀ ∂L/∂s_{t+1}

    (with regard to c of an LSTM, also by way of h, which is made of it in the same step).

    Parameters
    ----------
    model : Module
        A cell, or what has cells in it.
    loss : function ``loss(model, batch)``
        Returns a single number, as for :func:`~tinygrad_rnn.train.fit`; it runs the model. Where it has an error for
        each step, so has each state a gradient of its own, and little is seen of what vanishes: take the error of the
        last step alone.
    batch : any
        What the loss takes.

    Returns
    -------
    GradientFlow
        The norms, by name.

    Raises
    ------
    ValueError
        The model has no cells, or none was run by a scan; or only in checkpointed ones, which keep no tape of their
        steps; or the loss was not computed from what they returned.
    FloatingPointError
        The loss is not finite.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> xs = np.random.default_rng(0).standard_normal((50, 4, 3))
    >>> def loss(model, xs):
    ...     ys, _ = model(xs)
    ...     return (ys[-1] ** 2).mean()
    >>> flow = gradient_flow(nn.RNN(3, 8, rng=0, dtype=np.float64), loss, xs)
    >>> flow.norms["layers.0.forward.state"].shape
    (50, 4)
    >>> bool(flow.rms("layers.0.forward.state")[0] < 1e-6 * flow.rms("layers.0.forward.state")[-1])
    True
    """
    if not isinstance(model, Module):
        raise TypeError(f"model: expected a module, got {described(model)}")
    check_loss(loss, model, batch)
    if not any(isinstance(part, Cell) for part in model.modules()):
        raise ValueError(f"model: {type(model).__name__} has no cells: there are no states, and no steps")
    with (
        drawn_again(drawn_from(model)), recording(), compiled(False), differentiable(model),
        watching_scans(model) as scans,
    ):  # fmt: skip
        value = checked_loss(loss(model, batch))
    if not (seen := by_name(model, scans)):
        raise ValueError("loss: it runs no cell of the model by tg.scan, or by an nn.Recurrent, and only those are "
                         "watched: in the place of a loop over cell(x, state) put tg.scan(cell, xs)")  # fmt: skip
    if not np.isfinite(number := value.item()):
        raise FloatingPointError(f"loss: it is {number}: tg.anomaly() says which operation it was")
    return flow_of(value, number, seen)


def check_loss(loss: Any, model: Any, batch: Any) -> None:
    """Raise a TypeError, if it is no function that can be called as loss(model, batch)."""
    given.check_callable("loss", loss, "loss(model, batch)")
    try:
        signature = inspect.signature(loss)
    except ValueError:  # of what is not written in Python nothing is known
        return
    try:
        signature.bind(model, batch)
    except TypeError as error:
        raise TypeError(f"loss: gradient_flow takes loss(model, batch), got loss{signature} ({error}): where it "
                        "carries a state, pass lambda model, batch: loss(model, batch, None)[0]") from None  # fmt: skip


@contextmanager
def differentiable(model: Module) -> Iterator[None]:
    """What is not trained, weights that are frozen and constants, is on the tape as well in a block."""
    found = [x for x in model._tensors().values() if x.node is None and has_gradient(x.dtype)]
    for x in found:
        x.requires_grad = True
    try:
        yield
    finally:
        for x in found:
            x.requires_grad = False


class Series(NamedTuple):
    """A tensor that was seen, at all steps; None, where there was none, or it is not on the tape."""

    steps: list
    batch: tuple  # the number of sequences; (), where there is one, without an axis of its own
    of_state: bool  # the cell calls it a part of its state: before a mask, or a wrapper, made another one of it


def by_name(model: Module, scans: list) -> dict[str, Series]:
    """All that the cells of a model have shown in some scans."""
    places, times, found = {module: name for name, module in model.named_modules()}, Counter(), {}
    for cell, like, shown in scans:
        if cell not in places and not shown:  # somebody else's, which nobody watches
            continue
        prefix = f"{place}." if (place := places.get(cell)) else ""
        times[prefix] += 1
        suffix = f" ({times[prefix]})" if times[prefix] > 1 else ""
        within = [part for part in cell.modules() if isinstance(part, Cell)]
        parts = {name for part in within for name in re.findall(r"\w+", part.state_names)}
        batch = like[:1] if len(like) > (cell.input_size is not None) else ()
        for name, steps in shown.items():
            for path, tensors in by_leaf(name, steps):
                found[f"{prefix}{path}{suffix}"] = Series(tensors, batch, name in parts)
    return found


def by_leaf(name: str, steps: list) -> Iterator[tuple[str, list]]:
    """What was seen under a name: for each tensor of it those of all steps, where a gradient can flow there."""
    like = next(step for step in steps if step is not None)
    leaves = [[None] * len(trees.flatten(like)[0]) if s is None else trees.flatten(s)[0] for s in steps]
    for path, *parts in zip(trees.paths(like, name), *leaves):
        yield path, [x if isinstance(x, Tensor) and x.node is not None else None for x in parts]


def flow_of(value: Tensor, number: float, seen: dict[str, Series]) -> GradientFlow:
    """The gradients of a loss by all that was seen on its tape."""
    found = {name: one for name, one in seen.items() if any(x is not None for x in one.steps)}
    if not found:
        raise ValueError("model: nothing that was seen is on the tape: a checkpointed scan keeps none of its steps "
                         "(checkpoint=False), and neither does what runs in no_grad()")  # fmt: skip
    tensors = [x for one in found.values() for x in one.steps if x is not None]
    if value.node is None or {x.node for x in tensors}.isdisjoint(tape(value)):
        raise ValueError("loss: it was not computed from anything that the cells have returned, as far as the tape "
                         "knows: was that detached on the way, by .data, .detach(), or no_grad()?")  # fmt: skip
    gs = iter(pulled(value, None, tensors, create_graph=False, retain_graph=False))
    states = tuple(name for name in found if is_state(name))
    held = {id(x) for name in states for x in found[name].steps if x is not None}
    measured = {name: over_time(name, [None if x is None else next(gs) for x in one.steps], one.batch)
                for name, one in found.items()}  # fmt: skip
    gates = tuple(name for name, one in found.items()
                  if not one.of_state and not all(x is None or id(x) in held for x in one.steps))  # fmt: skip
    return GradientFlow(number, measured, states, gates)


def over_time(name: str, gs: list, batch: tuple) -> np.ndarray:
    """The norms of gradients, (time, batch); NaN where there is none."""
    rows = [None if g is None else norms(host(g) if g.shape[:1] == batch else host(g)[None], 1) for g in gs]
    sizes = {len(row) for row in rows if row is not None}
    if len(sizes) > 1:
        raise ShapeError(f"{name}: expected as many rows at each step, one for each sequence, got {sorted(sizes)}")
    missing = np.full(sizes.pop(), np.nan)
    return np.stack([missing if row is None else np.where(np.isnan(row), np.inf, row) for row in rows])


def place(name: str) -> tuple[str, str]:
    """Where the cell of a name is, and which of its scans it was."""
    where, _, own = name.rpartition(".")
    return where, own.partition(" ")[2]


def is_state(name: str) -> bool:
    return name.rpartition(".")[2].partition(" ")[0].partition("[")[0] == "state"
