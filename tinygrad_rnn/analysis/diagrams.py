"""How what a map does depends on a parameter: where its orbits end, for each value (``following.py`` has the rest).

A map here is f(x, r), elementwise, so that all values of the parameter are iterated at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError, described, whole
from ..plotting import axes
from ..progress import counted
from . import given


@dataclass(frozen=True, eq=False)
class Bifurcation:
    """Where the orbits of a map end, for each value of a parameter.

    Parameters
    ----------
    parameters : array, (P,)
        The values of the parameter.
    values : array, (K, S, P, ...)
        The last K states, from each of S starts. Where an orbit has no bounds, they are infinite or NaN.

    Examples
    --------
    >>> from tinygrad_rnn.analysis import bifurcation
    >>> found = bifurcation(lambda x, r: r * x * (1 - x), np.linspace(1.5, 2.5, 5), 0.3, keep=10)
    >>> found
    Bifurcation: 5 values of the parameter from 1.5 to 2.5, 10 states kept from 1 start
    >>> found.values.shape
    (10, 1, 5)
    """

    parameters: np.ndarray
    values: np.ndarray

    def __repr__(self) -> str:
        kept, starts = self.values.shape[:2]
        lost = ~np.isfinite(self.values).all(axis=tuple({*range(self.values.ndim)} - {2}))
        text = f"Bifurcation: {len(self.parameters)} values of the parameter from {self.parameters[0]:.6g} to "
        text += f"{self.parameters[-1]:.6g}, {kept} states kept from {starts} start{'s' * (starts > 1)}"
        return text + (f"; unbounded at {lost.sum()} of them" if lost.any() else "")

    def periods(self, tolerance: float = 1e-6) -> np.ndarray:
        """After how many steps the orbits are back, at each value and from each start, (S, P); 0: not in what is kept.

        Parameters
        ----------
        tolerance : float, optional
            How close counts as back.
        """
        kept, starts, n = self.values.shape[:3]
        states = self.values.reshape(kept, starts, n, -1)
        found = np.zeros((starts, n), dtype=int)
        with np.errstate(invalid="ignore"):
            for p in range(kept // 2, 0, -1):  # seen twice, so that one coincidence is no cycle
                back = (abs(states[p:] - states[:-p]) <= tolerance).all(axis=(0, 3))
                found[back] = p
        return found

    def plot(self, ax: Any = None, component: int = 0, **keywords: Any) -> Any:
        """Draw all states that were kept over the parameter, as dots.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw.
        component : int, optional
            Which number of a state that is a vector.
        **keywords
            For ``ax.plot``.
        """
        size = int(np.prod(self.values.shape[3:]))
        if whole("component", component, 0) >= size:
            raise ValueError(f"component: expected a number below {size}, as many as a state has, got {component}")
        ax = axes(ax)
        states = self.values.reshape(-1, len(self.parameters), size)[..., component]
        places = np.broadcast_to(self.parameters, states.shape)
        seen = np.isfinite(states)
        style = {"marker": ",", "linestyle": "none", "color": "C0", "rasterized": True}
        ax.plot(places[seen], states[seen], **{**style, **keywords})
        ax.set(xlabel="r", ylabel="x", xlim=(self.parameters[0], self.parameters[-1]))
        return ax


def bifurcation(
    f: Callable, parameters: Any, x0: Any, transient: int = 500, keep: int = 100, progress: bool = True
) -> Bifurcation:
    """Iterate f(·, r) for each value r of a parameter, and keep where it ends.

    Parameters
    ----------
    f : callable
        ``f(x, r)``, elementwise. It gets x as (S, P), where r is (P,). Where a state is a vector, x is (S, P, d), and f
        takes it apart, ``x[..., 0]``.
    parameters : array, (P,)
        The values, ascending.
    x0 : float, or array, (S,) or (S, d)
        The start, or several: what ends depend on it, where there are several attractors.
    transient : int, optional
        How many steps are made before.
    keep : int, optional
        How many states after these are kept.
    progress : bool, optional
        Whether a long run is shown, on stderr.

    Returns
    -------
    Bifurcation
        The states, and what to draw them with.

    Examples
    --------
    >>> found = bifurcation(lambda x, r: r * x * (1 - x), np.array([0.5, 2.0, 3.2, 3.5]), 0.3)
    >>> found.periods()
    array([[1, 1, 2, 4]])
    >>> found.values[-1, 0, :2].round(6)
    array([0. , 0.5])
    """
    given.check_callable("f", f, "f(x, r)")
    r = given.line("parameters", parameters, least=1)
    start = np.atleast_1d(given.floats("x0", x0, (0, 1, 2), ", (S,), or (S, d) for vectors"))
    x = np.repeat(start[:, None], len(r), axis=1)
    transient, keep = whole("transient", transient, 0), whole("keep", keep, 1)
    alone = given.value_of(lambda y: f(y, r[:1]), x[:1, :1])
    x, first = given.value_of(lambda y: f(y, r), x), x
    if not np.allclose(x[:1, :1], alone, rtol=1e-9, atol=1e-12, equal_nan=True):
        raise ShapeError(f"f: expected it to be elementwise; of x {described(first)} and r {described(r)} together it "
                         "makes something else than of the first of each")  # fmt: skip
    kept = [] if transient else [x]
    for i in counted(range(2, transient + keep + 1), progress, "bifurcation"):
        x = given.value_of(lambda y: f(y, r), x)
        if i > transient:
            kept.append(x)
    return Bifurcation(r, np.stack(kept))
