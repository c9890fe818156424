"""Measuring a model: the loss, and whatever else, over batches that are not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..errors import described
from ..modes import no_grad
from ..nn import Module
from ..tensor import bare
from .data import Pieces, is_arrays


def evaluate(
    model: Module, loss: Callable, data: Any, *, metrics: Mapping[str, Callable] | None = None,
    batch_size: int | None = None, batch_axis: Any = None,
) -> dict[str, float]:  # fmt: skip
    """The means of ``loss(model, batch)`` and of metrics over data, in the mode ``eval()``, without a tape.

    Parameters
    ----------
    model : Module
        What is evaluated.
    loss : callable
        ``loss(model, batch)``, a single number.
    data : tuple or list
        A tuple of arrays, cut by batch_size and batch_axis; or a list of batches. In the mean, a batch of arrays counts
        by its samples, and those of a list count alike.
    metrics : dict of str to callable, optional
        Functions ``metric(model, batch)``, numbers, by name.
    batch_size : int, optional
        How many samples make a batch; by default all.
    batch_axis : int or tuple of int, optional
        The axis of the arrays that is cut into batches, as in :func:`~tinygrad_rnn.train.fit`.

    Returns
    -------
    dict of str to float
        The means by name, that of the loss as ``"loss"``.

    Raises
    ------
    TypeError
        The data are neither of these, or a loss or a metric returned no number.
    ValueError
        A loss or a metric returned more than a single number.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn import nn
    >>> X, model = np.ones((10, 3), np.float32), nn.Linear(3, 1, rng=0)
    >>> found = evaluate(model, lambda model, batch: nn.mse(model(batch[0]), batch[1]), (X, model(X).data))
    >>> found
    {'loss': 0.0}
    """
    return measured(model, loss, parts_of("data", data, batch_size, batch_axis)(), metrics or {})


def measured(model: Module, loss: Callable, parts: Iterator, metrics: Mapping[str, Callable]) -> dict[str, float]:
    """The means over batches, each with its weight."""
    sums, total = dict.fromkeys(("loss", *metrics), 0.0), 0
    with in_mode(model, training=False), no_grad():
        for batch, weight in parts:
            total += weight
            for name, measure in {"loss": loss, **metrics}.items():
                sums[name] += weight * number(name, measure(model, batch))
    return {name: value / total for name, value in sums.items()}


def number(name: str, value: Any) -> float:
    """What a loss or a metric returned, as Python's number."""
    data = bare(value)
    if getattr(data, "size", 1) != 1:
        raise ValueError(f"{name}: expected a single number, got {described(value)}")
    try:
        return float(data.item() if hasattr(data, "item") else data)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected a single number, got {described(value)}") from None


def parts_of(name: str, data: Any, batch_size: int | None, batch_axis: Any) -> Callable[[], Iterator]:
    """A function that gives the batches of data, each with its weight in a mean."""
    if is_arrays(data):
        return Pieces(name, data, batch_size, batch_axis).in_order
    if not isinstance(data, Sequence) or isinstance(data, (str, bytes)) or not data:
        raise TypeError(f"{name}: expected a tuple of arrays, (X, Y), or a list of batches, got {described(data)}")
    return lambda: ((batch, 1) for batch in data)


@contextmanager
def in_mode(model: Module, training: bool) -> Iterator[None]:
    """In a block, a model is in the mode train() or eval(); then, all parts of it are as they were before."""
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode
