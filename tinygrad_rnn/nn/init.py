"""What weights are before training: arrays of random numbers, or the identity.

Every function that draws takes ``rng``: a seed, a NumPy Generator to draw from, or None for numbers that nobody can
repeat (the meaning that the scientific Python projects agreed on). The same seed draws the same bits; to give several
layers different weights, make one Generator, and hand it to all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def uniform(shape: tuple, bound: float, rng: Any = None, dtype: Any = np.float32) -> np.ndarray:
    """Numbers between -bound and bound.

    >>> uniform((2, 2), 0.5, rng=0)
    array([[ 0.13696168, -0.23021328],
           [-0.4590265 , -0.48347238]], dtype=float32)
    """
    return np.random.default_rng(rng).uniform(-bound, bound, shape).astype(dtype)


def normal(shape: tuple, std: float = 1.0, rng: Any = None, dtype: Any = np.float32) -> np.ndarray:
    """Normally distributed numbers around 0.

    >>> normal((3,), rng=0)
    array([ 0.12573022, -0.13210486,  0.64042264], dtype=float32)
    """
    return (std * np.random.default_rng(rng).standard_normal(shape)).astype(dtype)


def orthogonal(shape: tuple, gain: float = 1.0, rng: Any = None, dtype: Any = np.float32) -> np.ndarray:
    """A matrix whose rows (or columns, where there are more rows) are orthonormal, times gain (Saxe et al., 2014).

    It is drawn evenly from all of them: the QR decomposition of a normal matrix, the signs of R's diagonal taken out.

    >>> w = orthogonal((2, 3), rng=0, dtype=np.float64)
    >>> np.allclose(w @ w.T, np.eye(2))
    True
    """
    rows, columns = shape
    q, r = np.linalg.qr(normal((max(shape), min(shape)), 1.0, rng, np.float64))
    q = gain * q * np.sign(np.diagonal(r))
    return (q if rows >= columns else q.T).astype(dtype)


def identity(shape: tuple, gain: float = 1.0, dtype: Any = np.float32) -> np.ndarray:
    """gain on the diagonal, 0 elsewhere.

    >>> identity((2, 2))
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    return (gain * np.eye(*shape)).astype(dtype)
