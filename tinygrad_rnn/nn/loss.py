"""Losses: how far from its target a prediction is, as one number."""

from __future__ import annotations

from typing import Any

from ..arrays import device_of
from ..errors import described
from ..ops import expand_dims, log_softmax, mean, square, take_along_axis


def cross_entropy(logits: Any, targets: Any) -> Any:
    """The mean of -log(softmax(logits)[target]), safe for logits of any size.

    Args:
        logits: (..., classes).
        targets: the right classes, integers from 0, of the shape of logits without its last axis. On the CPU they
            are checked to be in range.

    >>> import numpy as np
    >>> float(cross_entropy(np.array([[0.0, 0.0], [1000.0, 0.0]]), np.array([0, 0])))  # log(2) / 2
    0.34657359027997264
    """
    targets = getattr(targets, "_data", targets)
    if targets.shape != logits.shape[:-1] or targets.dtype.kind not in "iu":
        raise ValueError(f"targets: expected integers of shape {logits.shape[:-1]}, one for each row of logits "
                         f"{logits.shape}; got {described(targets)}")  # fmt: skip
    classes = logits.shape[-1]
    if targets.size and device_of(targets) == "cpu" and not 0 <= targets.min() <= targets.max() < classes:
        raise ValueError(f"targets: expected classes 0 to {classes - 1}, got {targets.min()} to {targets.max()}")
    right = take_along_axis(log_softmax(logits, axis=-1), expand_dims(targets, -1), axis=-1)
    return -mean(right)


def mse(prediction: Any, target: Any) -> Any:
    """The mean of (prediction - target)², which must be of one shape: nothing is broadcast.

    >>> import numpy as np
    >>> float(mse(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    2.0
    """
    if prediction.shape != target.shape:
        raise ValueError(f"target: expected shape {prediction.shape}, like the prediction, got {target.shape}")
    return mean(square(prediction - target))
