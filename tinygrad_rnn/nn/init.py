"""What weights are before training: arrays of random numbers, or the identity.

Every function that draws takes ``rng``: a seed, a NumPy Generator to draw from, or None for numbers that nobody can
repeat (the meaning that the scientific Python projects agreed on). The same seed draws the same bits; to give several
layers different weights, make one Generator, and hand it to all of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import described


def uniform(shape: tuple, bound: float, rng: Any = None, dtype: Any = np.float32) -> np.ndarray:
    """Numbers between -bound and bound.

    Parameters
    ----------
    shape : tuple of int
        Of the array.
    bound : float
        The greatest absolute value.
    rng : int or Generator, optional
        A seed, or what to draw from; None: numbers that nobody can repeat.
    dtype : dtype, optional
        Of the array.

    Returns
    -------
    array
        The numbers.

    Examples
    --------
    >>> uniform((2, 2), 0.5, rng=0)
    array([[ 0.13696168, -0.23021328],
           [-0.4590265 , -0.48347238]], dtype=float32)
    """
    return np.random.default_rng(rng).uniform(-bound, bound, shape).astype(dtype)


def normal(shape: tuple, std: float = 1.0, rng: Any = None, dtype: Any = np.float32) -> np.ndarray:
    """Normally distributed numbers around 0.

    Parameters
    ----------
    shape : tuple of int
        Of the array.
    std : float, optional
        Their standard deviation.
    rng : int or Generator, optional
        A seed, or what to draw from; None: numbers that nobody can repeat.
    dtype : dtype, optional
        Of the array.

    Returns
    -------
    array
        The numbers.

    Examples
    --------
    >>> normal((3,), rng=0)
    array([ 0.12573022, -0.13210486,  0.64042264], dtype=float32)
    """
    return (std * np.random.default_rng(rng).standard_normal(shape)).astype(dtype)


def orthogonal(shape: tuple, gain: float = 1.0, rng: Any = None, dtype: Any = np.float32) -> np.ndarray:
    """A matrix whose rows (or columns, where there are more rows) are orthonormal, times gain (Saxe et al., 2014).

    It is drawn evenly from all of them: the QR decomposition of a normal matrix, the signs of R's diagonal taken out.

    Parameters
    ----------
    shape : tuple of int
        (rows, columns).
    gain : float, optional
        The size of each singular value.
    rng : int or Generator, optional
        A seed, or what to draw from; None: numbers that nobody can repeat.
    dtype : dtype, optional
        Of the array.

    Returns
    -------
    array
        The matrix.

    Examples
    --------
    >>> w = orthogonal((2, 3), rng=0, dtype=np.float64)
    >>> np.allclose(w @ w.T, np.eye(2))
    True
    """
    rows, columns = shape
    q, r = np.linalg.qr(normal((max(shape), min(shape)), 1.0, rng, np.float64))
    q = gain * q * np.sign(np.diagonal(r))
    return (q if rows >= columns else q.T).astype(dtype)


def identity(shape: tuple, gain: float = 1.0, dtype: Any = np.float32) -> np.ndarray:
    """A matrix with gain on the diagonal, and 0 elsewhere.

    Parameters
    ----------
    shape : tuple of int
        (rows, columns).
    gain : float, optional
        What is on the diagonal.
    dtype : dtype, optional
        Of the array.

    Returns
    -------
    array
        The matrix.

    Examples
    --------
    >>> identity((2, 2))
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    return (gain * np.eye(*shape)).astype(dtype)


# By the number of connections -----------------------------------------------------------------------------------------


def xavier_uniform(shape: tuple, gain: float = 1.0, rng: Any = None, dtype: Any = np.float32) -> np.ndarray:
    """Numbers of the variance 2 gain² / (fan_in + fan_out), evenly drawn (Glorot and Bengio, 2010).

    For a weight (out, in, ...): a unit has fan_in = in · ... inputs, an input goes to fan_out = out · ... units. Of the
    weights of several gates in one matrix, make one part a gate, as each is a matrix of its own.

    Parameters
    ----------
    shape : tuple of int
        Of the weight, (out, in, ...).
    gain : float, optional
        What all are multiplied with.
    rng : int or Generator, optional
        A seed, or what to draw from; None: numbers that nobody can repeat.
    dtype : dtype, optional
        Of the array.

    Returns
    -------
    array
        The weight.

    Raises
    ------
    ValueError
        The shape has less than two axes, or no connections.

    Examples
    --------
    >>> float(abs(xavier_uniform((3, 3), rng=0)).max()) <= 1
    True
    """
    fan_in, fan_out = _fans(shape)
    return uniform(shape, gain * (6 / (fan_in + fan_out)) ** 0.5, rng, dtype)


def xavier_normal(shape: tuple, gain: float = 1.0, rng: Any = None, dtype: Any = np.float32) -> np.ndarray:
    """Numbers of the variance 2 gain² / (fan_in + fan_out), normally distributed.

    As :func:`~tinygrad_rnn.nn.init.xavier_uniform` otherwise.

    Parameters
    ----------
    shape : tuple of int
        Of the weight, (out, in, ...).
    gain : float, optional
        What all are multiplied with.
    rng : int or Generator, optional
        A seed, or what to draw from; None: numbers that nobody can repeat.
    dtype : dtype, optional
        Of the array.

    Returns
    -------
    array
        The weight.

    Raises
    ------
    ValueError
        The shape has less than two axes, or no connections.

    Examples
    --------
    >>> w = xavier_normal((400, 600), rng=0)
    >>> bool(abs(w.var() - 2 / (400 + 600)) < 1e-4)
    True
    """
    fan_in, fan_out = _fans(shape)
    return normal(shape, gain * (2 / (fan_in + fan_out)) ** 0.5, rng, dtype)


def kaiming_uniform(
    shape: tuple, gain: float = 2**0.5, mode: str = "fan_in", rng: Any = None, dtype: Any = np.float32
) -> np.ndarray:
    """Numbers of the variance gain² / fan, evenly drawn; the gain of relu is √2 (He et al., 2015).

    For fan_in and fan_out see :func:`~tinygrad_rnn.nn.init.xavier_uniform`.

    Parameters
    ----------
    shape : tuple of int
        Of the weight, (out, in, ...).
    gain : float, optional
        What all are multiplied with.
    mode : {"fan_in", "fan_out"}, optional
        ``"fan_in"`` keeps the size of what goes forward, ``"fan_out"`` of the gradients that come back.
    rng : int or Generator, optional
        A seed, or what to draw from; None: numbers that nobody can repeat.
    dtype : dtype, optional
        Of the array.

    Returns
    -------
    array
        The weight.

    Raises
    ------
    ValueError
        The shape has less than two axes, or no connections; or ``mode`` is neither of the two.

    Examples
    --------
    >>> float(abs(kaiming_uniform((100, 6), rng=0)).max()) <= 1
    True
    """
    return uniform(shape, gain * (3 / _fan(shape, mode)) ** 0.5, rng, dtype)


def kaiming_normal(
    shape: tuple, gain: float = 2**0.5, mode: str = "fan_in", rng: Any = None, dtype: Any = np.float32
) -> np.ndarray:
    """Numbers of the variance gain² / fan, normally distributed; the gain of relu is √2 (He et al., 2015).

    For fan_in and fan_out see :func:`~tinygrad_rnn.nn.init.xavier_uniform`.

    Parameters
    ----------
    shape : tuple of int
        Of the weight, (out, in, ...).
    gain : float, optional
        What all are multiplied with.
    mode : {"fan_in", "fan_out"}, optional
        ``"fan_in"`` keeps the size of what goes forward, ``"fan_out"`` of the gradients that come back.
    rng : int or Generator, optional
        A seed, or what to draw from; None: numbers that nobody can repeat.
    dtype : dtype, optional
        Of the array.

    Returns
    -------
    array
        The weight.

    Raises
    ------
    ValueError
        The shape has less than two axes, or no connections; or ``mode`` is neither of the two.

    Examples
    --------
    >>> w = kaiming_normal((400, 600), rng=0)
    >>> bool(abs(w.var() - 2 / 600) < 1e-4)
    True
    """
    return normal(shape, gain * (1 / _fan(shape, mode)) ** 0.5, rng, dtype)


def _fans(shape: tuple) -> tuple[int, int]:
    if len(shape) < 2 or 0 in shape:
        raise ValueError(f"shape: expected (out, in, ...), which has connections, got {shape}")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _fan(shape: tuple, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode: expected 'fan_in' or 'fan_out', got {mode!r}")
    return _fans(shape)[mode == "fan_out"]


# By what a matrix does when it is applied again and again -------------------------------------------------------------


def with_spectral_radius(weight: np.ndarray, radius: float) -> np.ndarray:
    """A square matrix, scaled so that the largest of its eigenvalues has the size radius.

    That is what decides whether a state grows or fades when it is multiplied by the matrix at every step.

    Parameters
    ----------
    weight : array, (n, n)
        A square matrix, on the CPU.
    radius : float
        The spectral radius that it shall have, not below 0.

    Returns
    -------
    array
        The matrix, in the same dtype.

    Raises
    ------
    ValueError
        All eigenvalues are 0, so that no factor helps: of a matrix of zeros, or one whose connections have no cycle, as
        few of them may not (each state is forgotten after some steps); in any basis, as far as can be told: an error of
        ε in such a matrix makes eigenvalues of the size of ε^(1/n), which mean nothing.

    Examples
    --------
    >>> w = with_spectral_radius(np.array([[0.0, 4.0], [1.0, 0.0]]), 0.5)
    >>> w
    array([[0.  , 1.  ],
           [0.25, 0.  ]])
    """
    exact = _matrix(weight, radius, "radius")
    if exact.shape[0] != exact.shape[1]:
        raise ValueError(f"weight: expected a square matrix, got {exact.shape}")
    now = np.abs(np.linalg.eigvals(exact)).max()
    if _nilpotent(exact, now, min(float(np.finfo(weight.dtype).eps), 1e-7)):
        raise ValueError("weight: all of its eigenvalues are 0, and remain so whatever it is multiplied by: draw it "
                         "with more connections, or from another seed")  # fmt: skip
    return (exact * (radius / now)).astype(weight.dtype)


def _nilpotent(w: np.ndarray, radius: float, eps: float) -> bool:
    """Whether the eigenvalues of a matrix that is known up to eps are 0, and its computed radius an error.

    The sums of the eigenvalues and of their squares are 0 then, which is seen at once; and errors of another draw make
    another radius (they move one that is not an error by about as much as they are).
    """
    size, n = np.linalg.norm(w), len(w)
    if abs(np.trace(w)) > n * eps * size or abs((w * w.T).sum()) > n * eps * size**2:
        return False
    noise = np.random.default_rng(0).standard_normal(w.shape)
    moved = np.abs(np.linalg.eigvals(w + noise * (10 * eps * size / np.linalg.norm(noise)))).max()
    return bool(abs(moved - radius) >= 1e-4 * radius)


def with_spectral_norm(weight: np.ndarray, norm: float) -> np.ndarray:
    """A matrix, scaled so that its largest singular value is norm: no vector grows by more than that.

    Parameters
    ----------
    weight : array, (rows, columns)
        A matrix, on the CPU.
    norm : float
        The greatest singular value that it shall have, not below 0.

    Returns
    -------
    array
        The matrix, in the same dtype.

    Raises
    ------
    ValueError
        It is a matrix of zeros, so that no factor helps.

    Examples
    --------
    >>> with_spectral_norm(np.array([[0.0, 4.0], [1.0, 0.0]]), 0.5)
    array([[0.   , 0.5  ],
           [0.125, 0.   ]])
    """
    exact = _matrix(weight, norm, "norm")
    now = np.linalg.norm(exact, 2)
    if not now:
        raise ValueError("weight: it is 0, and remains so whatever it is multiplied by: draw it with more connections")
    return (exact * (norm / now)).astype(weight.dtype)


def _matrix(weight: np.ndarray, size: float, name: str) -> np.ndarray:
    """The matrix in float64, checked; and so is the size that it shall have."""
    if not 0 <= size < math.inf:
        raise ValueError(f"{name}: expected a finite number, not below 0, got {size!r}")
    if not isinstance(weight, np.ndarray) or weight.ndim != 2 or not weight.size or weight.dtype.kind != "f":
        raise ValueError(f"weight: expected a matrix of floating-point numbers on the CPU, got {described(weight)}")
    if not np.isfinite(weight).all():
        raise ValueError("weight: expected finite numbers, got NaN or an infinity among them")
    return weight.astype(np.float64)
