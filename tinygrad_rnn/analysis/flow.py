"""The flow of a gradient back through time: how large it is at each state, and at each gate, of each layer.

Nothing is derived here: it is what the tape gives with regard to what :func:`~tinygrad_rnn.nn.watching` has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from .. import trees
from ..arrays import has_gradient
from ..bptt import checked_loss
from ..compile import compiled
from ..errors import ShapeError, described
from ..nn import Module, watching
from ..nn.recurrent import drawn_from
from ..ops.checkpoint import set_states
from ..ops.checkpoint import states as draws_of
from ..plotting import axes
from ..tensor import Tensor
from ..transforms import pulled, recording
from .steps import host, norms

SHOWN = 8  # lines in a figure: where there would be more, only those of the states


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """The norms of the gradients of a loss, at each step, by name.

    Parameters
    ----------
    loss : float
        The loss.
    norms : dict of arrays, (time, batch)
        ‖∂L/∂v_t‖ of each sequence, for each v that was seen: ``"layers.0.forward.state"``, or ``"state"`` of a single
        cell; ``"state[0]"``, ``"state[1]"`` where a state is a tuple; gates as the cell calls them. NaN, where a step
        was not computed; inf, where the gradient is more than its dtype holds.
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

        Parameters
        ----------
        name : str
            One of the names.

        Returns
        -------
        array, (time,)
            NaN, where a step was not computed.
        """
        values = self._of(name)
        return norms(values, 1) / np.sqrt(max(1, values.shape[1]))

    def _of(self, name: str) -> np.ndarray:
        if name not in self.norms:
            raise KeyError(f"name: expected one of {list(self.norms)}, got {name!r}")
        return self.norms[name]

    @property
    def share(self) -> dict[str, float]:
        """Of each gate, its part of the squared norm of all gates in its layer and direction, over all steps."""
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
        ax = axes(ax)
        if names is None:
            names = self.states + (self.gates if len(self.states + self.gates) <= SHOWN else ())
        for i, name in enumerate([names] if isinstance(names, str) else names):
            values = self.rms(name)
            seen = np.isfinite(values) & (values > 0)
            ax.semilogy(np.flatnonzero(seen), values[seen], "-" if name in self.states else "--", color=f"C{i % 10}",
                        label=name)  # fmt: skip
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
        Returns a single number, as for :func:`~tinygrad_rnn.train.fit`; it runs the model.
    batch : any
        What the loss takes.

    Returns
    -------
    GradientFlow
        The norms, by name.

    Raises
    ------
    ValueError
        No cell of the model was run by a scan; or only in checkpointed ones, which keep no tape of their steps.
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
    if not callable(loss):
        raise TypeError(f"loss: expected a function loss(model, batch), got {described(loss)}")
    generators = drawn_from(model)
    draws = draws_of(generators)
    try:
        with recording(), compiled(False), differentiable(model), watching(model) as seen:
            value = checked_loss(loss(model, batch))
    finally:
        set_states(generators, draws)
    if value.size != 1:
        raise ValueError(f"loss: expected a single number, got {described(value)}: its mean, say")
    if not seen:
        raise ValueError(f"model: {type(model).__name__}: none of its cells was run over a sequence, by nn.scan or a "
                         "Recurrent: a loss that does has something to be watched")  # fmt: skip
    if not np.isfinite(number := value.item()):
        raise FloatingPointError(f"loss: it is {number}: tg.anomaly() says which operation it was")
    return flow_of(value, number, seen)


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


def flow_of(value: Tensor, number: float, seen: dict[str, list]) -> GradientFlow:
    """The gradients of a loss by all that was seen on its tape."""
    found = dict(chain.from_iterable(series(name, steps) for name, steps in seen.items()))
    if not found:
        raise ValueError("model: nothing that was seen is on the tape: a checkpointed scan keeps none of its steps "
                         "(checkpoint=False), and neither does what runs in no_grad()")  # fmt: skip
    tensors = [x for steps in found.values() for x in steps if x is not None]
    gs = iter(pulled(value, None, tensors, create_graph=False, retain_graph=False))
    states = tuple(name for name in found if is_state(name))
    held = {id(x) for name in states for x in found[name] if x is not None}
    measured = {name: over_time(name, [None if x is None else next(gs) for x in xs]) for name, xs in found.items()}
    gates = tuple(n for n, xs in found.items() if not all(x is None or id(x) in held for x in xs))
    return GradientFlow(number, measured, states, gates)


def series(name: str, steps: list) -> Iterator[tuple[str, list]]:
    """What was seen under a name: for each tensor of it those of all steps, if a gradient can flow there."""
    like = next(step for step in steps if step is not None)
    leaves = [[None] * len(trees.flatten(like)[0]) if s is None else trees.flatten(s)[0] for s in steps]
    for path, *parts in zip(trees.paths(like, name), *leaves):
        on_tape = [x if isinstance(x, Tensor) and x.node is not None else None for x in parts]
        if any(x is not None for x in on_tape):
            yield path, on_tape


def over_time(name: str, gs: list) -> np.ndarray:
    """The norms of gradients, (time, batch); NaN where there is none."""
    rows = [None if g is None else norms(np.atleast_2d(host(g)), 1) for g in gs]
    sizes = {len(row) for row in rows if row is not None}
    if len(sizes) > 1:
        raise ShapeError(f"{name}: it was seen in scans of different batches, of {sorted(sizes)} sequences: expected "
                         "one size, in one call of the loss")  # fmt: skip
    missing = np.full(sizes.pop(), np.nan)
    found = np.stack([missing if row is None else np.where(np.isnan(row), np.inf, row) for row in rows])
    return found


def place(name: str) -> str:
    """The layer and direction of a name."""
    return name.rpartition(".")[0]


def is_state(name: str) -> bool:
    return name.rpartition(".")[2].partition("[")[0] == "state"
