"""How the tests call an operation and pull a cotangent back, whatever it takes and returns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from registry import OpSpec

import tinygrad_rnn as tg
from tinygrad_rnn import ops
from tinygrad_rnn.tape import Leaf


def is_floating(x: Any) -> bool:
    return hasattr(x, "dtype") and x.dtype.kind == "f"


def differentiable(spec: OpSpec, arrays: Sequence) -> tuple[int, ...]:
    """The positions of the arrays that can have a gradient."""
    positions = range(len(arrays)) if spec.diff is None else spec.diff
    return tuple(i for i in positions if is_floating(arrays[i]))


def leaf(array: Any) -> tg.Tensor:
    """A tensor that requires a gradient and shares the array's memory, so that writing into it would be seen."""
    return tg.Tensor(array, Leaf(array.shape, array.dtype))


def leaves(arrays: Sequence, wanted: Sequence[int]) -> list:
    return [leaf(x) if i in wanted else x for i, x in enumerate(arrays)]


def parts(out: Any) -> tuple:
    return out if isinstance(out, tuple) else (out,)


def data(out: Any) -> Any:
    return out._data if isinstance(out, tg.Tensor) else out


def joined(out: Any) -> Any:
    """Several outputs as one."""
    return ops.concatenate([ops.ravel(x) for x in out]) if isinstance(out, tuple) else out


def parted(g: Any, like: Any) -> Any:
    """The cotangent of what was joined, as the reference returns it."""
    if not isinstance(like, tuple):
        return g
    ends = np.cumsum([math.prod(np.shape(x)) for x in like])
    return tuple(g[end - np.size(x) : end].reshape(np.shape(x)) for x, end in zip(like, ends))


def pull(y: tg.Tensor, xs: Sequence, g: Any, **keywords: Any) -> list:
    """The gradients with regard to xs: arrays, or tensors where the walk is recorded."""
    gs = tg.gradients(y, xs, g, **{"retain_graph": True} | keywords)
    return gs if keywords.get("create_graph") else [data(x) for x in gs]


def frozen(*arrays: Any) -> list[bytes]:
    """What the arrays hold; from here on nobody may write into them."""
    for x in arrays:
        if isinstance(x, np.ndarray):
            x.flags.writeable = False
    return [np.asarray(x).tobytes() for x in arrays]


def as_dtype(x: Any, dtype: Any) -> Any:
    """x in another floating-point dtype, if it is an array of such numbers."""
    return x.astype(dtype) if is_floating(x) else x


def assert_single(ours: Any, theirs: Any, rounding: float) -> None:
    """A result in float32 is float32, and off by so many of its eps, of numbers of the order of 1: sums may cancel."""
    assert (ours.dtype, ours.shape) == (np.float32, theirs.shape)
    off = np.abs(ours.astype(float) - theirs).max(initial=0.0)
    assert off <= rounding * 2.0**-23 * np.abs(theirs).max(initial=1.0), f"float32: off by {off:.3g}"
