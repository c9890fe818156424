"""A loss as a function of one or two numbers: entries of a model's weights, or steps along directions of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..arrays import device_of, move
from ..errors import ShapeError, described
from ..nn import Module
from ..nn.recurrent import drawn_from
from ..ops import astype
from ..ops.checkpoint import drawn_again
from ..tensor import Tensor, bare, tensor
from . import given


def along(model: Module, loss: Callable, batch: Any, first: Any, second: Any = None) -> Callable:
    """The loss of a model, as a function of one or two numbers, which some of its weights depend on.

    Parameters
    ----------
    model : Module
        It is left as it was, whatever happens: weights, gradients, and the states of its generators. So what it draws
        in one call, for dropout say, it draws again in the next; ``eval()`` turns that off.
    loss : callable
        ``loss(model, batch)``, a single number; or one for each sample, for :func:`profile`.
    batch : anything
        What the loss is computed of.
    first, second : tuple, or dict of arrays
        What varies. ``("cell.bias_ih", 2)``, the name of a parameter and an index: that entry *is* the number. A dict
        of arrays by such names (:func:`random_direction` makes one): the number says how far the weights are moved
        along it, from where they are now. Without second, it is a function of one number.

    Returns
    -------
    callable
        ``f(a, b)``, or ``f(a)``, for :func:`surface`, :func:`profile` and :func:`descent`: it can be differentiated.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> model = nn.Linear(2, 1, rng=0)
    >>> batch = np.ones((5, 2), np.float32), np.zeros((5, 1), np.float32)
    >>> f = along(model, lambda model, batch: nn.mse(model(batch[0]), batch[1]), batch, ("weight", (0, 1)), ("bias", 0))
    >>> np.isclose(f(1.5, -1.5).item(), model.weight.numpy()[0, 0] ** 2)
    np.True_
    """
    if not isinstance(model, Module):
        raise TypeError(f"model: expected a Module, got {described(model)}")
    given.check_callable("loss", loss, "loss(model, batch)")
    parameters = dict(model.named_parameters())
    ways = [checked(name, way, parameters) for name, way in (("first", first), ("second", second)) if way is not None]

    entries = [(way[0], entry_of(parameters[way[0]], way[1])) for way in ways if isinstance(way, tuple)]
    if len(set(entries)) < len(entries):
        raise ValueError(f"second: expected another entry than first, {first!r}, got the same: {second!r}")

    def f(*numbers: Any) -> Any:
        if len(numbers) != len(ways):
            hint = ": for two, as surface calls it, pass second= to along" if len(ways) < len(numbers) == 2 else ""
            wanted = f"{len(ways)} number{'s' * (len(ways) > 1)}"
            raise TypeError(f"f: expected {wanted}, for what varies, got {len(numbers)}{hint}")
        if wrong := [x for x in numbers if np.shape(bare(x)) != ()]:
            raise ShapeError(f"f: expected single numbers, got {described(wrong[0])}: a model has one set of weights "
                             "at a time: vectorized=False")  # fmt: skip
        if any(getattr(x, "requires_grad", False) for x in numbers) and (name := checkpointing(model)):
            raise ValueError(f"model: {name} computes parts of its tape again on the way back, when its weights are "
                             "its own again: set .checkpoint = False, where slopes are wanted")  # fmt: skip
        moved: dict[str, Tensor] = {}
        for way, number in sorted(zip(ways, numbers), key=lambda pair: isinstance(pair[0], tuple)):
            for name, change in [way] if isinstance(way, tuple) else way.items():
                p = moved.get(name, Tensor(parameters[name]._data))
                value = astype(number if isinstance(number, Tensor) else tensor(float(number)), p.dtype).to(p.device)
                moved[name] = p.at[change].set(value) if isinstance(way, tuple) else p + value * change
        rest = {name: Tensor(p._data) for name, p in parameters.items() if name not in moved}
        with model.replaced(moved | rest), drawn_again(drawn_from(model)):
            return loss(model, batch)

    return f


def random_direction(model: Module, rng: Any, normalize: bool = True) -> dict[str, np.ndarray]:
    """A random direction of all the weights of a model, for :func:`along`.

    Parameters
    ----------
    model : Module
        The model.
    rng : int or Generator
        The numbers are drawn from a normal distribution.
    normalize : bool, optional
        Whether each row of a matrix becomes as long as the row of weights that it moves (Li et al., 2018), and what has
        one axis as long as those weights. Then a step of 1 is as large as the weights are, in every layer; and what is
        0, as biases often are at first, stays so.

    Returns
    -------
    dict of array
        By the names of the parameters.

    References
    ----------
    H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein (2018). Visualizing the loss landscape of neural nets. NeurIPS.

    Examples
    --------
    >>> from tinygrad_rnn import nn
    >>> direction = random_direction(nn.Linear(3, 2, rng=0), rng=1)
    >>> {name: d.shape for name, d in direction.items()}
    {'weight': (2, 3), 'bias': (2,)}
    """
    if not isinstance(model, Module):
        raise TypeError(f"model: expected a Module, got {described(model)}")
    rng, direction = np.random.default_rng(rng), {}
    for name, p in model.named_parameters():
        weights = p.numpy()
        d = rng.standard_normal(p.shape)
        if normalize and p.size:
            axes = tuple(range(1, p.ndim)) if p.ndim > 1 else None
            d *= np.sqrt((weights**2).sum(axis=axes, keepdims=True) / (d**2).sum(axis=axes, keepdims=True))
        direction[name] = d.astype(p.dtype)
    return direction


def entry_of(p: Tensor, index: Any) -> int:
    """The number of an entry, however its index is written."""
    return int(np.arange(p.size).reshape(p.shape)[index])


def checkpointing(model: Module) -> str:
    """The name of a part of the model that keeps checkpoints instead of its tape; none, if none does."""
    parts = (name or type(part).__name__ for name, part in model.named_modules() if getattr(part, "checkpoint", False))
    return next(parts, "")


def checked(name: str, way: Any, parameters: dict[str, Tensor]) -> Any:
    """What varies, if the model has it: (name, index), or arrays by name, where the parameters are."""

    def known(key: Any) -> Tensor:
        if key not in parameters:
            raise ValueError(f"{name}: expected the name of a parameter, one of {', '.join(parameters)}; got {key!r}")
        return parameters[key]

    if isinstance(way, tuple) and len(way) == 2 and isinstance(way[0], str):
        p = known(way[0])
        try:
            entry = p.numpy()[way[1]]
        except IndexError as error:
            raise IndexError(f"{name}: {way[0]} is {described(p)}: {error}") from None
        if np.shape(entry) != ():
            raise ShapeError(f"{name}: expected the index of one entry of {way[0]}, {described(p)}, got {way[1]!r}")
        return way
    if not isinstance(way, Mapping) or not way:
        raise TypeError(f"{name}: expected (name of a parameter, index), or a dict of arrays by such names, got "
                        f"{described(way)}")  # fmt: skip
    found = {}
    for key, direction in way.items():
        p, array = known(key), bare(direction)
        if getattr(array, "shape", None) != p.shape or array.dtype != p.dtype:
            raise ShapeError(f"{name}[{key!r}]: expected {described(p)}, as the parameter is, got {described(array)}")
        found[key] = array if device_of(array) == p.device else move(array, p.device)
    return found
