"""Clipping: gradients made smaller before a step, where they have exploded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import to_array
from ..tensor import Tensor
from .optimizers import ON_NONFINITE, POSITIVE, Parameters, leaves, listed, within


def clip_grad_norm_(parameters: Parameters, max_norm: float, on_nonfinite: str = "raise") -> Tensor:
    """Scale the gradients of parameters down, all by one factor, if their norm is larger than max_norm.

    Of all gradients as one vector (Pascanu et al., 2013)::

        g ← max_norm · g / ‖g‖        where ‖g‖ > max_norm

    The norm is computed in float64, so that large gradients do not overflow; and after clipping it is max_norm
    (PyTorch, which adds 1e-6 to it, stays just below).

    Parameters
    ----------
    parameters : Tensor or iterable of Tensor
        Those without a gradient count as 0, and so does it if there are none.
    max_norm : float
        More than 0; ``inf`` only asks for the norm.
    on_nonfinite : {"raise", "skip", "ignore"}, optional
        What to do if the norm is infinite or NaN. ``"skip"``: forget all the gradients, so that the optimiser's next
        step does nothing. ``"ignore"``: scale without looking, as PyTorch does, so that NaN spreads (on a GPU this does
        not wait for the norm).

    Returns
    -------
    Tensor
        The norm before clipping, without dimensions: ``float(norm)``.

    Raises
    ------
    FloatingPointError
        The norm is not finite, and on_nonfinite is ``"raise"``. The gradients are as they were.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor([3.0, 4.0], requires_grad=True)
    >>> (x * x / 2).sum().backward()
    >>> clip_grad_norm_([x], 1.0), x.grad
    (tensor(5.), tensor([0.6, 0.8]))
    """
    within("max_norm", max_norm, *POSITIVE)
    within("on_nonfinite", on_nonfinite, *ON_NONFINITE)
    clipped = with_gradient(parameters)
    norm = norm_of([p.grad._data for p in clipped])
    if on_nonfinite != "ignore" and not np.isfinite(norm):
        if on_nonfinite == "raise":
            raise FloatingPointError(f"the norm of the gradients is {norm}: look for its source with tg.anomaly(), or "
                                     'pass on_nonfinite="skip" to leave out such steps')  # fmt: skip
        for p in clipped:
            p.grad = None
    else:
        factor = np.minimum(max_norm / np.where(norm == 0, 1, norm), 1)
        for p in clipped:
            p.grad = Tensor(to_array(p.grad._data * factor.astype(p.dtype)))
    return Tensor(to_array(norm))


def norm_of(grads: Sequence) -> Any:
    """The norm of all gradients, in float64: the squares of what other dtypes can hold are finite there."""
    large = [abs(g).max() > 1e140 for g in grads if g.dtype == np.float64 and g.size]
    scale = np.where(sum(large) > 0, 2.0**600, 1.0) if large else 1.0  # a power of 2, so that no digit changes
    return scale * np.sqrt(sum(np.square(g.astype(np.float64) / scale).sum() for g in grads))


def clip_grad_value_(parameters: Parameters, clip_value: float) -> None:
    """Bring each element of the gradients of parameters into -clip_value to clip_value.

    NaN stays NaN. This changes the direction of the step; :func:`~tinygrad_rnn.optim.clip_grad_norm_` does not.

    Parameters
    ----------
    parameters : Tensor or iterable of Tensor
        Those without a gradient are left alone.
    clip_value : float
        More than 0.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor([3.0, 0.5], requires_grad=True)
    >>> (x * x / 2).sum().backward()
    >>> clip_grad_value_([x], 1.0)
    >>> x.grad
    tensor([1. , 0.5])
    """
    within("clip_value", clip_value, *POSITIVE)
    for p in with_gradient(parameters):
        p.grad = Tensor(to_array(np.clip(p.grad._data, -float(clip_value), float(clip_value))))


def with_gradient(parameters: Parameters) -> list[Tensor]:
    """Those that have a gradient, of parameters, if there are any: a model may have no trained part."""
    given = listed(parameters)
    return [p for p in leaves(given) if p.grad is not None] if given else []
