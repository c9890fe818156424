"""Losses: how far from its target a prediction is, as one number.

All of them take the same last arguments. ``reduction`` says what becomes of the losses of the elements: their
``"mean"``, their ``"sum"``, or ``"none"``: they are returned as they are. Of padded sequences, time first, ``lengths``
or ``mask`` say what counts, as they do for :func:`~tinygrad_rnn.scan`: what does not has the loss 0 and a gradient
of exactly 0, whatever is there (even NaN), and a mean is one of the rest alone; 0, if nothing is left. A mask has the
first axes of the losses: (time, batch), or (batch,) where there is no time. Predictions are arrays or tensors; targets
may be lists.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import device_of, is_array, move, new_array
from ..errors import check_kind, described
from ..ops import clip, expand_dims, log_softmax, mean, softplus, square, squeeze, sum, take_along_axis, where
from ..tensor import bare
from .recurrent import checked_lengths


def cross_entropy(
    logits: Any, targets: Any, *, ignore_index: int | None = None, label_smoothing: float = 0.0, lengths: Any = None,
    mask: Any = None, reduction: str = "mean",
) -> Any:  # fmt: skip
    """-log(softmax(logits)[target]), safe for logits of any size.

    What does not count has the loss 0 and a gradient of exactly 0, whatever is there, even NaN.

    Parameters
    ----------
    logits : array or Tensor, (..., classes)
        The logits.
    targets : array or list of int, (...)
        The right classes, from 0. On the CPU they are checked to be in range.
    ignore_index : int, optional
        A target that does not count, as if masked.
    label_smoothing : float, optional
        From 0 to 1: the share of a target that is spread evenly over all classes (Szegedy et al., 2016).
    lengths : array of int, (batch,), optional
        How many steps of each sequence count, where they are padded, time first.
    mask : array of bool, optional
        What counts, instead: it has the first axes of the losses, (time, batch) or (batch,).
    reduction : {"mean", "sum", "none"}, optional
        What becomes of the elements' losses; ``"mean"`` is that of what counts, 0 if nothing does.

    Returns
    -------
    Tensor or array
        The loss: a number, or one for each target.

    Raises
    ------
    ValueError
        The targets are not integers, one for each row of logits, or no such classes; or another argument makes no
        sense.

    Examples
    --------
    >>> float(cross_entropy(np.array([[0.0, 0.0], [1000.0, 0.0]]), np.array([0, 0])))  # log(2) / 2
    0.34657359027997264
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing: expected a number from 0 to 1, got {label_smoothing!r}")
    check_kind("logits", logits)
    targets = of_list("targets", targets, logits)
    targets = bare(targets)
    if not is_array(targets) or targets.shape != logits.shape[:-1] or targets.dtype.kind not in "iu":
        raise ValueError(f"targets: expected integers of shape {logits.shape[:-1]}, one for each row of logits "
                         f"{logits.shape}; got {described(targets)}")  # fmt: skip
    counted = what_counts(targets, lengths, mask)
    if ignore_index is not None:
        counted = (targets != ignore_index) & (True if counted is None else counted)
    targets, classes = targets if counted is None else np.where(counted, targets, 0), logits.shape[-1]
    if targets.size and device_of(targets) == "cpu" and not 0 <= targets.min() <= targets.max() < classes:
        raise ValueError(f"targets: expected classes 0 to {classes - 1}, got {targets.min()} to {targets.max()}")
    log_p = log_softmax(shielded(logits, counted), axis=-1)
    losses = -squeeze(take_along_axis(log_p, expand_dims(targets, -1), axis=-1), -1)
    if label_smoothing := float(label_smoothing):
        losses = (1 - label_smoothing) * losses - label_smoothing * mean(log_p, axis=-1)
    return reduced(losses, counted, reduction)


def binary_cross_entropy_with_logits(
    logits: Any, targets: Any, *, lengths: Any = None, mask: Any = None, reduction: str = "mean"
) -> Any:
    """-t · log(σ(x)) - (1 - t) · log(1 - σ(x)) of logits x and targets t, safe for logits of any size.

    What does not count has the loss 0 and a gradient of exactly 0, whatever is there, even NaN.

    Parameters
    ----------
    logits : array or Tensor
        x, of any shape.
    targets : array, Tensor or list
        t, of the same shape: probabilities from 0 to 1 (which is checked on the CPU), or booleans.
    lengths : array of int, (batch,), optional
        How many steps of each sequence count, where they are padded, time first.
    mask : array of bool, optional
        What counts, instead: it has the first axes of the losses, (time, batch) or (batch,).
    reduction : {"mean", "sum", "none"}, optional
        What becomes of the elements' losses; ``"mean"`` is that of what counts, 0 if nothing does.

    Returns
    -------
    Tensor or array
        The loss: a number, or one for each element.

    Raises
    ------
    ValueError
        The targets are of another shape, or not from 0 to 1.

    Examples
    --------
    >>> float(binary_cross_entropy_with_logits(np.array([0.0, 1000.0]), np.array([True, True])))  # log(2) / 2
    0.34657359027997264
    """
    check_kind("logits", logits)
    values = bare(targets)
    targets = values.astype(logits.dtype) if is_array(values) and values.dtype.kind in "biu" else targets
    x, t, counted = paired(logits, targets, lengths, mask, names=("logits", "targets"))
    values, data = bare(t), bare(x)
    if values.size and device_of(values) == "cpu" and not 0 <= values.min() <= values.max() <= 1:
        raise ValueError(f"targets: expected numbers from 0 to 1, got {values.min()} to {values.max()}")
    if device_of(data) != "cpu" or np.isinf(data).any():  # infinitely sure, and right: a loss of 0, and not 0 · inf
        x = where(np.isinf(data) & ((data > 0) == values), np.clip(data, -1e4, 1e4), x)
    return reduced(t * softplus(-x) + (1 - t) * softplus(x), counted, reduction)


def mse(prediction: Any, target: Any, *, lengths: Any = None, mask: Any = None, reduction: str = "mean") -> Any:
    """The squared error, (prediction - target)².

    What does not count has the loss 0 and a gradient of exactly 0, whatever is there, even NaN.

    Parameters
    ----------
    prediction, target : array or Tensor
        Of one shape and dtype: nothing is broadcast. The target may be a list.
    lengths : array of int, (batch,), optional
        How many steps of each sequence count, where they are padded, time first.
    mask : array of bool, optional
        What counts, instead: it has the first axes of the losses, (time, batch) or (batch,).
    reduction : {"mean", "sum", "none"}, optional
        What becomes of the elements' losses; ``"mean"`` is that of what counts, 0 if nothing does.

    Returns
    -------
    Tensor or array
        The loss: a number, or one for each element.

    Raises
    ------
    ValueError
        They are of different shapes.
    TypeError
        They are of different dtypes.

    Examples
    --------
    >>> float(mse(np.array([1.0, 2.0]), np.array([1.0, 4.0])))
    2.0
    """
    prediction, target, counted = paired(prediction, target, lengths, mask)
    return reduced(square(prediction - target), counted, reduction)


def huber(
    prediction: Any, target: Any, delta: float = 1.0, *, lengths: Any = None, mask: Any = None, reduction: str = "mean"
) -> Any:
    """Half the square of d = prediction - target, up to delta; a straight line from there on (Huber, 1964).

    The loss of an element is::

        d² / 2 where -delta < d < delta        delta · (|d| - delta / 2) elsewhere

    So no outlier has a gradient of more than delta. What does not count has the loss 0 and a gradient of exactly 0,
    whatever is there, even NaN.

    Parameters
    ----------
    prediction, target : array or Tensor
        Of one shape and dtype: nothing is broadcast. The target may be a list.
    delta : float, optional
        Where the line begins, above 0.
    lengths : array of int, (batch,), optional
        How many steps of each sequence count, where they are padded, time first.
    mask : array of bool, optional
        What counts, instead: it has the first axes of the losses, (time, batch) or (batch,).
    reduction : {"mean", "sum", "none"}, optional
        What becomes of the elements' losses; ``"mean"`` is that of what counts, 0 if nothing does.

    Returns
    -------
    Tensor or array
        The loss: a number, or one for each element.

    Raises
    ------
    ValueError
        They are of different shapes, or ``delta`` is not above 0.
    TypeError
        They are of different dtypes.

    Examples
    --------
    >>> float(huber(np.array([1.0, 9.0]), np.array([0.0, 0.0]), reduction="sum"))  # 1/2 + 8.5
    9.0
    """
    if not delta > 0:
        raise ValueError(f"delta: expected a number above 0, got {delta!r}")
    prediction, target, counted = paired(prediction, target, lengths, mask)
    distance, delta = prediction - target, float(delta)
    near = clip(distance, -delta, delta)
    return reduced(near * (distance - 0.5 * near), counted, reduction)


def masked_mean(values: Any, *, lengths: Any = None, mask: Any = None) -> Any:
    """The mean of what counts, for losses of one's own.

    The rest gets a gradient of exactly 0. (But if NaN went into the values, the rules of what came before can make NaN
    of that. The losses that take a mask themselves see to it.)

    Parameters
    ----------
    values : array or Tensor
        The losses, with time first.
    lengths : array of int, (batch,), optional
        How many steps of each sequence count, where they are padded, time first.
    mask : array of bool, optional
        What counts, instead: it has the first axes of the values, (time, batch) or (batch,).

    Returns
    -------
    Tensor or array
        The mean; 0, if nothing counts.

    Raises
    ------
    ValueError
        ``lengths`` or ``mask`` do not fit to the values, or both are given.

    Examples
    --------
    >>> float(masked_mean(np.array([[1.0, 2.0], [5.0, np.nan]]), lengths=np.array([2, 1])))
    2.6666666666666665
    """
    check_kind("values", values)
    return reduced(values, what_counts(values, lengths, mask), "mean")


# What they share ------------------------------------------------------------------------------------------------------


def paired(
    prediction: Any, target: Any, lengths: Any, mask: Any, names: tuple[str, str] = ("prediction", "target")
) -> tuple[Any, Any, Any]:
    """Prediction and target, checked to be alike, 0 where they do not count; and what counts."""
    ours, theirs = names
    check_kind(ours, prediction)
    target = of_list(theirs, target, prediction, prediction.dtype)
    if getattr(target, "shape", None) != prediction.shape:
        got = getattr(target, "shape", type(target).__name__)
        raise ValueError(f"{theirs}: expected shape {prediction.shape}, like the {ours}, got {got}")
    if target.dtype != prediction.dtype:
        raise TypeError(f"{theirs}: expected {prediction.dtype}, like the {ours}, got {target.dtype}: convert one, "
                        f"with astype({prediction.dtype.name!r})")  # fmt: skip
    counted = what_counts(prediction, lengths, mask)
    return shielded(prediction, counted), shielded(target, counted), counted


def of_list(name: str, target: Any, like: Any, dtype: Any = None) -> Any:
    """A target that is a list, as an array of this dtype, where the prediction is; else the target."""
    if not isinstance(target, (list, tuple)):
        return target
    try:
        array = move(new_array(target), device_of(bare(like)))
    except (TypeError, ValueError) as error:
        error.add_note(f"in {name}, given as a {type(target).__name__}")
        raise
    return array if dtype is None or array.dtype.kind not in "biuf" else array.astype(dtype)


def what_counts(values: Any, lengths: Any, mask: Any) -> Any:
    """A mask that has the first axes of values, on their device, from lengths or a mask; None if all of it counts."""
    if lengths is not None and mask is not None:
        raise ValueError("lengths, mask: expected one of them, got both: a mask says what lengths say, too")
    if lengths is not None:
        if len(values.shape) < 2:
            raise ValueError(f"lengths: expected losses (time, batch, ...), got shape {values.shape}")
        mask = np.arange(values.shape[0])[:, None] < checked_lengths(lengths, *values.shape[:2])
    if mask is None:
        return None
    mask = bare(mask)
    if not is_array(mask) or mask.dtype != bool or mask.shape != values.shape[: mask.ndim]:
        raise ValueError(f"mask: expected booleans with the first axes of {values.shape}, got {described(mask)}")
    return move(mask, device_of(bare(values)))


def shielded(values: Any, counted: Any) -> Any:
    """The values, 0 where they do not count: nothing flows to or from there."""
    if counted is None:
        return values
    return where(counted.reshape(counted.shape + (1,) * (len(values.shape) - counted.ndim)), values, 0)


def reduced(losses: Any, counted: Any, reduction: str) -> Any:
    """What is returned of the losses of all elements."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction: expected 'mean', 'sum' or 'none', got {reduction!r}")
    losses = shielded(losses, counted)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return sum(losses)
    if counted is None:
        return mean(losses)
    if not losses.size:
        return sum(losses)
    return mean(losses) * (counted.size / np.maximum(counted.sum(), 1)).astype(losses.dtype)
