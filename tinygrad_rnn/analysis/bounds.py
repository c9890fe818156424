"""What the weights alone say of gradients: Pascanu, Mikolov and Bengio's bound for simple cells (2013).

It is a statement about norms. Eigenvalues bound no power of a matrix at a given lag, only in the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import is_array
from ..errors import ShapeError, described, whole
from ..nn import Cell, IRNNCell, Module, RNNCell
from ..nn.recurrent import cells_of
from ..nn.spectrum import LIPSCHITZ, spectral_radius
from ..tensor import bare
from .steps import host


@dataclass(frozen=True, eq=False)
class GradientBound:
    """How steep a step of a simple cell can be: ‖∂h_t/∂h_{t-1}‖ ≤ γ ‖W‖.

    Parameters
    ----------
    matrix : array, (units, units)
        W, on the host.
    gamma : float
        γ, the largest derivative of the nonlinearity.
    norm, radius : float
        The largest singular value of W, ‖W‖, and the largest absolute value of its eigenvalues, ρ(W).

    Examples
    --------
    >>> found = gradient_bound(2.0 * np.eye(3), "sigmoid")
    >>> found.factor, found.vanishes, found.may_explode
    (0.5, True, False)
    """

    matrix: np.ndarray
    gamma: float
    norm: float
    radius: float

    @property
    def factor(self) -> float:
        """γ ‖W‖."""
        return self.gamma * self.norm

    @property
    def vanishes(self) -> bool:
        """Whether γ ‖W‖ < 1: which is sufficient for gradients to vanish, exponentially in the lag."""
        return self.factor < 1

    @property
    def may_explode(self) -> bool:
        """Whether γ ‖W‖ > 1: which is necessary for gradients to explode, and not sufficient."""
        return self.factor > 1

    def log_bound(self, lag: Any) -> np.ndarray:
        """The logarithm (the natural one) of (γ ‖W‖)^lag, which bounds that of ‖∂h_t/∂h_{t-lag}‖.

        Parameters
        ----------
        lag : int or array of integers
            How many steps back.

        Returns
        -------
        array
            Like lag.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(np.asarray(lag) == 0, 0.0, np.asarray(lag, float) * np.log(self.factor))

    def powers(self, lags: int) -> np.ndarray:
        """The norms of the powers of W: of the products of Jacobians in a linear cell.

        Where W is not normal they may grow for a while, even if its spectral radius is below 1.

        Parameters
        ----------
        lags : int
            The largest power.

        Returns
        -------
        array, (lags + 1,)
            ‖W^k‖ for k = 0 ... lags.
        """
        power, found = np.eye(len(self.matrix)), []
        for _ in range(whole("lags", lags, 0) + 1):
            found.append(np.linalg.norm(power, 2))
            power = power @ self.matrix
        return np.array(found)

    def __repr__(self) -> str:
        if self.vanishes:
            follows = f"below 1: gradients vanish, at least as fast as {self.factor:.4g}^lag"
        elif self.may_explode:
            follows = "above 1: gradients may explode, or vanish all the same: this does not say"
        else:
            follows = "exactly 1: gradients do not grow; whether they vanish, this does not say"
        text = (
            f"GradientBound: γ = {self.gamma:g}, ‖W‖ = {self.norm:.4g}, ρ(W) = {self.radius:.4g}\n"
            f"  γ ‖W‖ = {self.factor:.4g} is {follows}"
        )
        if self.radius < 1 <= self.norm:
            text += "\n  ρ(W) < 1 says that W^k goes to 0 in the end, and nothing of how large it becomes before"
        return text


def gradient_bound(w: Any, nonlinearity: str | None = None) -> GradientBound:
    """Whether gradients of a simple cell must vanish, or may explode, as far as its recurrent matrix says.

    A step back multiplies by a matrix whose norm is bounded::

        h_t = φ(W h_{t-1} + ...)        ∂h_t/∂h_{t-1} = diag(φ') W        ‖∂h_t/∂h_{t-k}‖ ≤ (γ ‖W‖)^k

    where γ is the largest ``|φ'|``: 1 of tanh, relu and the identity, 1/4 of the sigmoid; and ‖W‖ the largest singular
    value, not eigenvalue. γ ‖W‖ < 1 is sufficient for gradients to vanish, γ ‖W‖ > 1 necessary for them to explode.

    Parameters
    ----------
    w : RNNCell, array or Tensor
        A simple cell, or its recurrent matrix. Of other cells a step is no such function: :func:`step_jacobians`
        measures.
    nonlinearity : str, optional
        ``"tanh"``, ``"relu"``, ``"sigmoid"`` or ``"linear"``. A cell says it itself.

    Returns
    -------
    GradientBound
        The norm, the radius, and what follows.

    References
    ----------
    R. Pascanu, T. Mikolov, Y. Bengio: On the difficulty of training recurrent neural networks. ICML 2013, section 2.1.

    Examples
    --------
    >>> found = gradient_bound(np.array([[0.9, 10.0], [0.0, 0.9]]), "linear")
    >>> found
    GradientBound: γ = 1, ‖W‖ = 10.08, ρ(W) = 0.9
      γ ‖W‖ = 10.08 is above 1: gradients may explode, or vanish all the same: this does not say
      ρ(W) < 1 says that W^k goes to 0 in the end, and nothing of how large it becomes before
    >>> powers = found.powers(70)
    >>> powers[9].round(1), int(np.argmax(powers[1:] < 1)) + 1
    (np.float64(38.7), 63)
    """
    if type(w) in (RNNCell, IRNNCell):
        if nonlinearity is not None:
            raise ValueError(f"nonlinearity: {type(w).__name__} says it itself, {w.nonlinearity!r}: leave it out")
        w, nonlinearity = w.weight_hh, w.nonlinearity
    elif not is_array(bare(w)):
        hint = cells_of(w) if isinstance(w, Module) and not isinstance(w, Cell) else ""
        raise TypeError(f"w: expected an RNNCell, whose step is φ(W h + ...), or its matrix W, got "
                        f"{type(w).__name__ if hint else described(w)}: of any cell, step_jacobians measures how "
                        f"gradients grow{hint}")  # fmt: skip
    elif nonlinearity is None:
        raise ValueError("nonlinearity: expected one beside a matrix: how steep it is, is half of the bound")
    if not isinstance(nonlinearity, str) or nonlinearity not in LIPSCHITZ:
        raise ValueError(f"nonlinearity: expected one of {', '.join(map(repr, LIPSCHITZ))}, of which is known how "
                         f"steep they are, got {nonlinearity!r}")  # fmt: skip
    matrix = host(w)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ShapeError(f"w: expected a square matrix, got {described(w)}")
    if not np.isfinite(matrix).all():
        raise ValueError("w: expected finite numbers, got NaN or infinities among them")
    norm = float(np.linalg.norm(matrix, 2)) if len(matrix) else 0.0
    return GradientBound(matrix, LIPSCHITZ[nonlinearity], norm, spectral_radius(matrix))
