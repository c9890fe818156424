"""What goes wrong, said so that the caller can mend it: which operation, which argument, what came, what was expected.

NumPy and CuPy already refuse what they cannot compute. Here their errors get the words of the call that the user wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from .arrays import device_of, is_array


class DeviceError(TypeError):
    """Operands live on different devices.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> tg.tensor([1.0], device="cuda") + tg.tensor([1.0])  # doctest: +SKIP
    Traceback (most recent call last):
    tinygrad_rnn.errors.DeviceError: add: a is on 'cuda:0' and b on 'cpu', and nothing is copied between devices
    silently: move one, with .to('cpu') or .to('cuda:0')
    """


class ShapeError(ValueError):
    """What a module is given has other axes, or another number of features, than it takes.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> tg.nn.Linear(3, 2, rng=0)(np.ones((5, 4), np.float32))
    Traceback (most recent call last):
    tinygrad_rnn.errors.ShapeError: ...
    """


class StateError(ValueError):
    """A state that was passed is not one of that cell, or not of that batch.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> xs = np.ones((5, 2, 3), np.float32)
    >>> tg.scan(tg.nn.RNNCell(3, 4, rng=0), xs, np.zeros((2, 7), np.float32))
    Traceback (most recent call last):
    tinygrad_rnn.errors.StateError: ...
    """


class AnomalyError(FloatingPointError):
    """Under :func:`~tinygrad_rnn.anomaly`: a NaN or an infinity was made out of finite numbers, or a NaN has spread.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> with tg.anomaly():
    ...     tg.divide(1.0, np.array([2.0, 0.0]))
    Traceback (most recent call last):
    tinygrad_rnn.errors.AnomalyError: divide made inf at [1], out of finite numbers (a = 1.0, b = 0.0): divide(a: 1.0,
    b: float64 (2,)), called at ...
    """


class MutationError(RuntimeError):
    """An array that the tape keeps was changed between forward and backward, or a rule has written into its gradient.

    Raised under :func:`~tinygrad_rnn.anomaly`; of rules that write, by :func:`~tinygrad_rnn.check_gradients`, too.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> shared = np.ones(2)
    >>> x = tg.tensor(np.ones(2), requires_grad=True)
    >>> with tg.anomaly():
    ...     y = x * tg.from_dlpack(shared)
    ...     shared[:] = 5
    ...     y.sum().backward()
    Traceback (most recent call last):
    tinygrad_rnn.errors.MutationError: ...
    """


def described(value: Any) -> str:
    """A value in a few words: ``float32 (3, 4)`` for an array, its repr for anything small."""
    value = getattr(value, "_data", value)
    if is_array(value) and not isinstance(value, np.generic):
        where = device_of(value)
        return f"{value.dtype} {value.shape}" + (f" on {where}" if where != "cpu" else "")
    if isinstance(value, (list, tuple)) and any(is_array(getattr(part, "_data", part)) for part in value):
        return f"[{', '.join(map(described, value))}]"
    text = repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:50]}..."


def counted(value: Any) -> str:
    """A value in a few words, as :func:`described`; of what holds others, also how many there are, and the first."""
    if not isinstance(value, (tuple, list, dict)):
        return described(value)
    is_dict = isinstance(value, dict)
    parts = [f"{k!r}: {described(v)}" for k, v in value.items()] if is_dict else [*map(described, value)]
    shown = ", ".join(parts if len(parts) <= 4 else [*parts[:3], "..."])
    return f"a {type(value).__name__} of {len(parts)}" + (f": {shown}" if parts else "")


def check_kind(name: str, x: Any, dtype: Any = None) -> None:
    """Raise a TypeError, if the input of a module is no array and no tensor, or not of the dtype of its weights."""
    if not is_array(getattr(x, "_data", x)):
        wanted = name.split()[-1] + ("" if dtype is None else f", {dtype.name!r}")
        raise TypeError(f"{name}: expected an array or a tensor, got {type(x).__name__}: make one of it, with "
                        f"np.asarray({wanted})")  # fmt: skip
    if dtype is not None and x.dtype != dtype:
        ways = conversions(dtype, x)
        raise TypeError(f"{name}: expected {dtype}, as the weights are, got {described(x)}: {ways}")


def conversions(dtype: Any, x: Any) -> str:
    """How an input gets the dtype of the weights, or they its."""
    way = f"convert it, astype({dtype.name!r})"
    return f"{way}, or the weights, module.astype({x.dtype.name!r})" if x.dtype.kind == "f" else way


def check_features(name: str, x: Any, features: int | None, axis: str, got: Any) -> None:
    """Raise a ShapeError, if the input of a module does not have so many features. got: what came, which x is of."""
    if x.shape[-1:] != (features,):
        error = ShapeError(f"{name}: expected {features} features on {axis}, got {described(got)}")
        if features in x.shape[:-1]:
            error.add_note("another axis has that length: are the features last? moveaxis puts them there")
        raise error


def whole(name: str, value: Any, least: int) -> int:
    """The value of a setting, if it is a whole number that is not below the least."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name}: expected a whole number, at least {least}, got {value!r}")
    return int(value)


def refuse_mixed(operation: str, arrays: dict, error: Exception) -> None:
    """Raise a DeviceError, if the arrays (by name) live on different devices. NumPy's scalars live nowhere."""
    places = {x: device_of(a) for x, a in arrays.items() if is_array(a) and not isinstance(a, np.generic)}
    for b, there in places.items():
        a, here = next(iter(places.items()))
        if there != here:
            raise DeviceError(
                f"{operation}: {a} is on {here!r} and {b} on {there!r}, and nothing is copied between devices "
                f"silently: move one, with .to({there!r}) or .to({here!r})"
            ) from error


def refuse_gradients(error: Exception, op: Any, parents: Sequence, gradients: Sequence) -> None:
    """Raise a TypeError in the place of the walk's, if what a rule has returned is no array."""
    for i, (parent, g) in enumerate(zip(parents, gradients)):
        if parent is not None and not is_array(getattr(g, "_data", g)):
            x = f"{op.inputs[0]}[{i}]" if op.variadic else op.inputs[i]
            raise TypeError(f"{op.name}: its rule for {x} returned {counted(g)}, and has to return an array "
                            f"{parent.shape}") from error  # fmt: skip


def explain(error: Exception, op: Any, inputs: Sequence, keywords: dict) -> NoReturn:
    """Raise the error of a primitive's forward again, of its kind, in the words of the operation that was called."""
    parameters = [p for p in op.signature.parameters if p not in keywords]
    names = [f"{op.inputs[0]}[{i}]" for i in range(len(inputs))] if op.variadic else parameters
    given = {**dict(zip(names, inputs)), **keywords}
    arrays = {name: getattr(x, "_data", x) for name, x in given.items()}
    if not isinstance(error, IndexError):
        refuse_mixed(op.name, arrays, error)
    kinds = (np.exceptions.AxisError, np.linalg.LinAlgError, IndexError, ValueError, TypeError)
    kind = next((kind for kind in kinds if isinstance(error, kind)), None)
    if not (type(error) in kinds or type(error).__module__.startswith(("numpy", "cupy"))):
        kind = None  # an exception of the user's own stays what it is
    came = [f"{name}: {described(x)}" for name, x in given.items()]
    came = f"{op.name}({', '.join(came if len(came) <= 8 else [*came[:6], '...', came[-1]])})"
    if kind is None:
        error.add_note(f"in {came}")
        raise error
    raise kind(f"{came}: {error}") from error
