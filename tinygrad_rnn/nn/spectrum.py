"""The size of a recurrent matrix: its spectral radius, and what Jaeger (2001) proved of echo states from it.

It is for matrices on the host, NumPy's or SciPy's sparse ones; nothing here is recorded. Where SciPy is installed, the
radius of a large matrix is found by Arnoldi's iteration (ARPACK), without all the other eigenvalues.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from ..errors import described
from ..ops.sparse import sparse_arrays

SMALL = 256  # rows: of smaller matrices all eigenvalues are computed
LIPSCHITZ = {"tanh": 1.0, "relu": 1.0, "linear": 1.0, "sigmoid": 0.25}
IS_ONE_AT_0 = ("tanh", "linear")  # whose derivative, at the state 0, which is a fixed point


class EchoState(NamedTuple):
    """What Jaeger's Proposition 4 says of leaky units (GMD report 148, 2001).

    Parameters
    ----------
    holds : bool or None
        True, the echo-state property is proved for all inputs; False, it is disproved where 0 is an input; None:
        neither is known.
    contraction : float
        A bound of how much two states approach in a step; below 1 it proves the property (4a).
    effective_radius : float
        ρ(leak W + (1 - leak) I); above 1 it disproves the property (4b); only where φ'(0) = 1.

    Examples
    --------
    >>> found = echo_state_property(0.5 * np.eye(2))
    >>> found.holds, found.contraction
    (True, 0.5)
    """

    holds: bool | None
    contraction: float
    effective_radius: float


def spectral_radius(w: Any) -> float:
    """The greatest absolute value of the eigenvalues of a square matrix.

    Parameters
    ----------
    w : array or sparse matrix, (n, n)
        The matrix, on the host.

    Returns
    -------
    float
        Its spectral radius.

    Raises
    ------
    ValueError
        It is not a square matrix of numbers.

    Examples
    --------
    >>> spectral_radius(np.array([[0.9, 10.0], [0.0, 0.9]])), spectral_radius(np.array([[0.0, -1.0], [1.0, 0.0]]))
    (0.9, 1.0)
    """
    w = square(w)
    if not w.shape[0] or _is_acyclic(w):
        return 0.0
    if w.shape[0] > SMALL and has_scipy():
        from scipy.sparse import linalg

        first = np.random.default_rng(0).standard_normal(w.shape[0]).astype(w.dtype)  # so that it is repeatable
        try:
            return float(abs(linalg.eigs(w, k=1, ncv=40, v0=first, return_eigenvectors=False)).max())
        except linalg.ArpackNoConvergence:
            pass
    return float(abs(np.linalg.eigvals(dense(w))).max())


def effective_spectral_radius(w: Any, leak: Any = 1.0) -> float:
    """ρ(leak W + (1 - leak) I), of leaky units: what counts of them near the state 0 (Jaeger et al., 2007).

    Parameters
    ----------
    w : array or sparse matrix, (n, n)
        W, on the host.
    leak : float or array, () or (n,), optional
        A number, or one for each unit.

    Returns
    -------
    float
        The spectral radius.

    Examples
    --------
    >>> effective_spectral_radius(np.array([[0.0, -1.0], [1.0, 0.0]]), leak=0.5)
    0.707...
    """
    return spectral_radius(_leaky(square(w), leak))


def echo_state_property(w: Any, leak: Any = 1.0, nonlinearity: str = "tanh") -> EchoState:
    """Whether units h' = (1 - leak) h + leak φ(W h + ...) forget their first state: as far as W alone can tell.

    Parameters
    ----------
    w : array or sparse matrix, (n, n)
        W, on the host.
    leak : float or array, () or (n,), optional
        A number, or one for each unit.
    nonlinearity : {"tanh", "relu", "sigmoid", "linear"}, optional
        φ.

    Returns
    -------
    EchoState
        What is proved, and by which numbers.

    Raises
    ------
    ValueError
        ``nonlinearity`` is another, of which is not known how steep it is.

    Examples
    --------
    >>> echo_state_property(0.5 * np.eye(2), leak=0.3).holds, echo_state_property(1.1 * np.eye(2), leak=0.3).holds
    (True, False)
    >>> echo_state_property(np.array([[0.9, 10.0], [0.0, 0.9]]))
    EchoState(holds=None, contraction=10.08..., effective_radius=0.9...)
    """
    if not isinstance(nonlinearity, str) or nonlinearity not in LIPSCHITZ:
        raise ValueError(f"nonlinearity: expected one of {', '.join(map(repr, LIPSCHITZ))}, of which is known how "
                         f"steep they are, got {nonlinearity!r}")  # fmt: skip
    w, leak = square(w), np.asarray(leak, float)
    gained = LIPSCHITZ[nonlinearity] * float(np.linalg.norm(dense(_times(leak, w)), 2)) if w.shape[0] else 0.0
    contraction = float((1 - leak).max()) + gained
    radius = effective_spectral_radius(w, leak)
    holds = True if contraction < 1 else False if radius > 1 and nonlinearity in IS_ONE_AT_0 else None
    return EchoState(holds, contraction, radius)


def scale_of(w: Any, radius: float) -> float:
    """What W has to be multiplied with, to have that spectral radius.

    Raises
    ------
    ValueError
        W has none: it is nilpotent (its powers become 0, as where no connections form a loop), or empty.
    """
    found, norm = spectral_radius(w), float(np.sqrt((abs(w) ** 2).sum()))
    if found <= w.shape[0] * np.finfo(w.dtype).eps * norm:
        reason = "it has no connections" if norm == 0 else "it is nilpotent: its connections form no loop"
        raise ValueError(f"spectral_radius: the recurrent matrix ({w.shape[0]} units) has a spectral radius of 0, as "
                         f"{reason}, and cannot be scaled to {radius}: take a greater density, more units, or another "
                         "seed; or spectral_radius=None, which leaves it as it is")  # fmt: skip
    return radius / found


@functools.cache
def has_scipy() -> bool:
    return find_spec("scipy") is not None


def square(w: Any) -> Any:
    """A square matrix of floating-point numbers: an array, or SciPy's rows (CSR)."""
    if not isinstance(w, np.ndarray) and hasattr(w, "tocsr"):
        w = w.tocsr()
    elif not isinstance(w, np.ndarray):
        w = np.asarray(w)
    if w.ndim != 2 or w.shape[0] != w.shape[1] or w.dtype.kind not in "fiu":
        raise ValueError(f"expected a square matrix of numbers, got {described(w)}")
    return w if w.dtype.kind == "f" else w.astype(float)


def dense(w: Any) -> np.ndarray:
    return w if isinstance(w, np.ndarray) else w.toarray()


def _leaky(w: Any, leak: Any) -> Any:
    kept = np.broadcast_to(1 - np.asarray(leak, float), w.shape[:1])
    if isinstance(w, np.ndarray):
        return _times(leak, w) + np.diag(kept)
    return _times(leak, w) + sparse_arrays(np).diags(kept).tocsr()


def _times(leak: Any, w: Any) -> Any:
    """Each row of W times the leak of its unit."""
    rows = np.broadcast_to(np.asarray(leak, float), w.shape[:1])
    return rows[:, None] * w if isinstance(w, np.ndarray) else (sparse_arrays(np).diags(rows) @ w).tocsr()


def _is_acyclic(w: Any) -> bool:
    """Whether no connections form a loop: then all eigenvalues are 0, which no iteration finds out exactly."""
    is_left = np.ones(w.shape[0], bool)
    connected = w != 0
    while is_left.any():  # a unit that hears of none which is left is in no loop
        heard = (connected @ is_left.astype(np.int64)) > 0
        if not (is_left & ~heard).any():
            return False
        is_left &= heard
    return True
