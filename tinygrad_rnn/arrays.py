"""Arrays and the devices they live on: the only file that knows that CuPy exists.

The operations call NumPy's functions, and NumPy hands a CuPy array to CuPy by its own protocols
(``np.tanh(cupy_array)`` runs on the GPU): so an array chooses its backend, and there is no flag. What those protocols
do not cover is here. CuPy is imported when somebody asks for the device, and not before.
"""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

import numpy as np


def namespace(*arrays: Any) -> ModuleType:
    """The module that the arrays belong to: ``numpy``, or ``cupy`` where one of them is CuPy's.

    >>> namespace(np.ones(3)).__name__
    'numpy'
    """
    cupy = sys.modules.get("cupy")  # who has a CuPy array has imported CuPy (another thread may be half-way there)
    kind = getattr(cupy, "ndarray", ())
    return cupy if any(isinstance(a, kind) for a in arrays) else np


class Duck:
    """The base of arrays of other kinds, which take NumPy's calls by its protocols: those of a trace, say."""

    __slots__ = ()


def is_array(value: Any) -> bool:
    """Whether it is an array (or a NumPy scalar), on any device."""
    return isinstance(value, (np.ndarray, np.generic, Duck)) or namespace(value) is not np


def owner(array: Any) -> Any:
    """The array that a view is a view of; itself, if it is none."""
    while is_array(getattr(array, "base", None)):
        array = array.base
    return array


def device_of(array: Any) -> str:
    """``"cpu"``, or ``"cuda:0"`` for an array on the first GPU."""
    return "cpu" if namespace(array) is np else f"cuda:{array.device.id}"


def move(array: Any, device: str) -> Any:
    """The array on another device (``"cpu"``, ``"cuda"``, ``"cuda:1"``); itself, if it is there already.

    Raises
    ------
    ValueError
        There is no such device name.
    ImportError
        CuPy is not installed.
    RuntimeError
        CuPy finds no such GPU.
    """
    if not isinstance(device, str) or not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        hint = ": that is a dtype, and numbers are converted by astype(dtype)" if names_dtype(device) else ""
        raise ValueError(f"device: expected 'cpu', 'cuda' or 'cuda:1', got {device!r}{hint}")
    if device == "cpu":
        return array if namespace(array) is np else array.get()
    try:
        import cupy
    except ImportError as error:
        raise ImportError(f"device {device!r} needs CuPy: pip install 'tinygrad_rnn[cuda13]' (or cuda12)") from error
    number = device.partition(":")[2]
    if namespace(array) is cupy and (not number or array.device.id == int(number)):
        return array
    try:
        with cupy.cuda.Device(int(number) if number else None):
            return cupy.asarray(array)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(f"device {device!r} cannot be used: {error}") from error


def names_dtype(value: Any) -> bool:
    """Whether NumPy takes it for a dtype."""
    try:
        return value is not None and np.dtype(value) is not None
    except (TypeError, ValueError, SyntaxError):
        return False


def new_array(data: Any, dtype: Any = None) -> Any:
    """A new array of numbers that nobody else holds, from anything that NumPy or CuPy makes an array of."""
    try:
        array = data.copy() if isinstance(data, Duck) or namespace(data) is not np else np.array(data)
    except ValueError as error:
        raise ValueError(f"data: expected numbers in a regular shape, got {type(data).__name__}: {error}") from error
    array = array if dtype is None else array.astype(dtype, copy=False)
    if array.dtype.kind not in "fbiuc" and array.dtype.name != "bfloat16":
        raise TypeError(f"data: expected numbers in a regular shape, got {type(data).__name__} ({array.dtype})")
    return array


def shared_array(other: Any) -> Any:
    """The array of another library, without a copy, by DLPack: NumPy's on the CPU, CuPy's on a GPU."""
    if other.__dlpack_device__()[0] in (1, 3):  # DLPack's numbers for the CPU, and for its memory pinned by CUDA
        return np.from_dlpack(other)
    import cupy

    return cupy.from_dlpack(other)


def operand(value: Any) -> Any:
    """What stands beside a tensor, as an array or a number: nothing that has its own idea of arithmetic."""
    if type(value) in (float, int, np.ndarray):
        return value
    if isinstance(value, (list, tuple)):
        return np.array(value)
    if isinstance(value, (np.ma.MaskedArray, np.matrix)) or not (
        is_array(value) or isinstance(value, (int, float, complex))
    ):
        raise TypeError(f"expected arrays, tensors or numbers, got {type(value).__name__}: make a tensor of it")
    return value


def private(value: Any) -> Any:
    """An operand that is no tensor belongs to the user, who may write into it later: the tape keeps a copy."""
    return value if isinstance(value, (float, int, np.generic)) or value is None else new_array(value)


def as_array(value: Any) -> Any:
    """What has a shape already, as it is; an array of a list or a number."""
    return value if hasattr(value, "shape") else np.asarray(value)


def to_array(out: Any) -> Any:
    """NumPy makes scalars of results without dimensions; a tensor holds an array."""
    return np.asarray(out) if isinstance(out, np.generic) else out


def has_gradient(dtype: Any) -> bool:
    """Whether numbers of this dtype can have a gradient: floating-point ones do, integers and booleans do not."""
    if dtype.kind not in "fbiu" and dtype.name != "bfloat16":
        raise TypeError(f"{dtype} has no gradient here, and one is wanted: compute with real floating-point numbers")
    return dtype.kind == "f" or dtype.name == "bfloat16"


def floating(x: Any) -> Any:
    """An array; of floating-point numbers, where it had integers: their arithmetic would wrap around."""
    return x.astype(float) if x.dtype.kind in "biu" else x


def read_only(array: Any) -> Any:
    """A view that cannot be written into. (CuPy has no such views: there it is the array.)"""
    if isinstance(array, np.ndarray):
        array = array.view()
        array.flags.writeable = False
    return array


def scatter_add(target: Any, index: Any, values: Any) -> None:
    """``target[index] += values``, where places that the index names twice are added to twice."""
    namespace(target).add.at(target, index, values)
