"""A gradient by lag: how much of it comes from how long ago.

:func:`tinygrad_rnn.bptt.contributions` has the terms themselves, of one parameter; here their sizes, of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from ..bptt import paths_back
from ..errors import described
from ..nn import Module
from ..nn.recurrent import checked_sequence, drawn_from, prepared
from ..ops.checkpoint import drawn_again
from ..plotting import axes, log_image, log_line
from ..progress import counted
from ..tensor import Tensor
from ..transforms import recording
from . import given
from .steps import host, named, norms


@dataclass(frozen=True, eq=False)
class Contributions:
    """By how much each step k has a part in the gradient of each step's loss, ‖∂E_t/∂h_k · ∂⁺h_k/∂W‖.

    Parameters
    ----------
    losses : array, (time,)
        E_t; NaN where the step has no loss.
    norms : dict of arrays, (time, time)
        For each parameter: ``norms[name][t, k]``, 0 for k > t, NaN where step t has no loss.
    gradients : dict of arrays
        For each parameter, the sum of all terms: what back-propagation through time gives.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> cell, xs = nn.RNNCell(2, 8, rng=0, dtype=np.float64), np.ones((30, 4, 2))
    >>> found = contributions(cell, xs, lambda y, t: y.sum() if t == 29 else None)
    >>> found.norms["weight_ih"].shape, found.gradients["weight_ih"].shape
    ((30, 30), (8, 2))
    """

    losses: np.ndarray
    norms: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]

    def by_lag(self, name: str) -> np.ndarray:
        """The norms by lag, t - k: the mean over all t that have a loss, and go back so far.

        Parameters
        ----------
        name : str
            Of a parameter.

        Returns
        -------
        array, (time,)
            For lags from 0; NaN, where there is no such t.
        """
        matrix = named(self.norms, name)
        found = [np.diagonal(matrix, -lag) for lag in range(len(matrix))]
        found = [values[~np.isnan(values)] for values in found]
        return np.array([values.mean() if len(values) else np.nan for values in found])

    def plot(self, ax: Any = None, names: Any = None) -> Any:
        """Draw the norms over the lag, on a logarithmic scale, a line for each parameter.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            What to draw on; by default new ones.
        names : sequence of str, optional
            Of the parameters; by default all.

        Returns
        -------
        matplotlib Axes
            Those.
        """
        names = self.norms if names is None else [names] if isinstance(names, str) else names
        lines = {name: self.by_lag(name) for name in names}
        ax = axes(ax)
        for i, (name, values) in enumerate(lines.items()):
            log_line(ax, np.arange(len(values)), values, color=f"C{i % 10}", label=name)
        ax.set(xlabel="lag $t-k$", ylabel="norm of the term", title="The parts of the gradient, by lag")
        ax.legend(fontsize="small")
        return ax

    def image(self, ax: Any = None, name: str | None = None, **keywords: Any) -> Any:
        """Draw log10 of the norms as an image, t by k, with a bar of its colours.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            What to draw on; by default new ones.
        name : str, optional
            Of a parameter; by default the first.
        **keywords
            For ``ax.pcolormesh``: ``vmin`` and ``vmax``, say, where several images are to be compared.

        Returns
        -------
        matplotlib Axes
            Those.
        """
        name = next(iter(self.norms)) if name is None else name
        matrix, steps = named(self.norms, name), np.arange(len(self.losses))
        ax = axes(ax)
        log_image(ax, steps, steps, matrix, **keywords)
        ax.set(xlabel="step $k$", ylabel="loss of step $t$", title=f"The terms of $dE_t$ / d {name}")
        return ax

    def __repr__(self) -> str:
        lines = [f"Contributions: {len(self.losses)} steps, {np.sum(~np.isnan(self.losses))} of them with a loss"]
        width = max(map(len, self.norms))
        for name in self.norms:
            lags = self.by_lag(name)
            last = np.flatnonzero(~np.isnan(lags))[-1]
            lines.append(f"  {name:<{width}}  lag 0: {lags[0]:.2e}  lag {last}: {lags[last]:.2e}")
        return "\n".join(lines)


def contributions(
    cell: Any, xs: Any, loss: Callable, state: Any = None, *, parameters: Mapping[str, Tensor] | None = None,
    progress: bool = True,
) -> Contributions:  # fmt: skip
    """The sizes of the terms of which the gradient of each step's loss is the sum.

    Each path from step t back to step k, where the parameter acts, is one of them::

        dE_t/dW = Σ_{k ≤ t} ∂E_t/∂h_k ∂⁺h_k/∂W

    where the last factor is that of step k alone, h_{k-1} held fixed: it is computed as the gradient of that step. The
    terms that are far back are the first to vanish. It takes time (time + 1) / 2 walks back over a step, where each
    step has a loss.

    Parameters
    ----------
    cell : Cell or function ``step(x, state)``
        Any cell. What it draws (dropout, noise), it will draw again afterwards.
    xs : array or Tensor, (time, ...)
        The inputs.
    loss : function ``loss(y, t)``
        The loss of step t, a single number, from its output; or None, where it has none.
    state : tree of tensors, optional
        What to start from.
    parameters : dict of tensors, optional
        By what to differentiate; by default, the parameters of the cell, by their names.
    progress : bool, optional
        Whether a bar is shown, where tqdm is installed and it takes a while.

    Returns
    -------
    Contributions
        The sizes, by parameter.

    Raises
    ------
    ValueError
        The loss of a step is not a single number.
    FloatingPointError
        The loss of a step is not finite.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> cell, xs = nn.RNNCell(2, 8, rng=0, dtype=np.float64), np.random.default_rng(0).standard_normal((30, 4, 2))
    >>> found = contributions(cell, xs, lambda y, t: (y * y).sum() if t == 29 else None)
    >>> sizes = found.by_lag("weight_hh")
    >>> bool(sizes[28] < 1e-4 * sizes[0])
    True
    """
    if parameters is None:
        parameters = dict(cell.named_parameters()) if isinstance(cell, Module) else {}
    if not isinstance(parameters, Mapping) or not all(isinstance(p, Tensor) for p in parameters.values()):
        raise TypeError(f"parameters: expected tensors by name, {{'W': W}}, say, got {described(parameters)}")
    if not parameters:
        raise ValueError(f"parameters: expected at least one tensor; {described(cell)} does not say which it uses: "
                         "pass them, {'W': W}, say")  # fmt: skip
    if frozen := [name for name, p in parameters.items() if not p.requires_grad]:
        raise ValueError(f"parameters: expected all to require gradients; {', '.join(frozen)}: frozen, set "
                         "requires_grad = True, or leave it out")  # fmt: skip
    given.check_callable("loss", loss, "loss(y, t)")
    module = cell
    cell, xs, state, *_ = prepared(cell, checked_sequence(xs), state)
    if not (time := len(xs)):
        raise ValueError(f"xs: expected at least one step, got {described(xs)}: the first axis is time")
    losses = np.full(time, np.nan)
    sizes = {name: np.full((time, time), np.nan) for name in parameters}
    sums = {name: np.zeros(p.shape) for name, p in parameters.items()}
    paths = groupby(paths_back(cell, xs, state, loss, [*parameters.values()]), itemgetter(0))
    with recording(), drawn_again(drawn_from(module) if isinstance(module, Module) else []):
        for t, path in counted(paths, progress, "contributions", total=time):
            for _, k, e, terms in path:
                losses[t] = e.item()
                if not np.isfinite(losses[t]):
                    raise FloatingPointError(f"loss: that of step {t} is {losses[t]}")
                for name, term in zip(parameters, map(host, terms)):
                    sizes[name][t, k], sizes[name][t, t + 1 :] = norms(term, 0), 0
                    sums[name] += term
    if np.isnan(losses).all():
        raise ValueError("loss: it returned None for each step: expected a number for at least one")
    return Contributions(losses, sizes, sums)
