"""A strict stand-in for CuPy, on the CPU: NumPy computes, and what CuPy 14.2 refuses is refused.

With it every operation can be run "on a device" where there is no GPU. It is as strict as CuPy or stricter, so that
what passes here does not fail there; what it cannot show is CuPy's numbers, its speed, and its asynchrony. It refuses:

- becoming a NumPy array without being asked (``np.asarray``, DLPack), and NumPy arrays among the operands;
- names and keywords that CuPy lacks (``cupy_names.txt``: no ``np.unstack``, no ``where=``, no ``initial=``);
- what CuPy does silently and wrongly: integer arrays that index out of bounds (it wraps them around), and assigning
  twice to one place (the winner is undefined).

``copies_to_host()`` says how many times values were brought to the host: ``x.get()``, ``float(x)``, ``x[mask]``.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import cupy_names
import numpy as np

NAMES = cupy_names.read()
DTYPES = "?bhilqBHILQefdFD"  # CuPy has no long double, no strings, no objects
AT = {"add": "efdilqILQ", "subtract": "iI", "maximum": "fdilqILQ", "minimum": "fdilqILQ"}  # dtypes of ufunc.at
HOST = {"asarray", "array", "ascontiguousarray", "asanyarray", "asfortranarray"}  # what uploads a NumPy array
WAITS = {"nonzero", "flatnonzero", "argwhere", "unique", "extract"}  # the size of the result must come to the host
LEFT_OUT = {"put", "place", "putmask", "choose"}  # they can assign twice to one place
SCALARS = (bool, int, float, complex, np.generic)

_copies = 0


def copies_to_host() -> int:
    """How many times values have been brought to the host since the module was imported."""
    return _copies


def copied(value: Any) -> Any:
    global _copies
    _copies += 1
    return value


# Across the border ----------------------------------------------------------------------------------------------------


def inside(value: Any) -> Any:
    """What NumPy computes with, from what a user passes: arrays of the device unwrapped, arrays of the host refused."""
    if isinstance(value, ndarray):
        return value._array
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")  # CuPy's words
    if isinstance(value, (tuple, list)):
        return type(value)(map(inside, value))
    return value


def outside(value: Any) -> Any:
    """The other way. What NumPy makes a scalar of is an array in CuPy; its named tuples are plain ones."""
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray(value)
    if isinstance(value, (tuple, list)):
        return (list if isinstance(value, list) else tuple)(map(outside, value))
    return value


def computed(name: str, function: Callable, arguments: tuple, keywords: dict) -> Any:
    """The call, if CuPy's signature of that name allows it. CuPy never warns of infinities and NaNs, nor does this."""
    signature = NAMES[name]
    if signature == "ufunc":
        if refused := keywords.keys() - {"out", "dtype", "casting"}:
            raise TypeError(f"Wrong arguments {refused}")
    elif signature is not None:
        try:
            signature.bind(*arguments, **keywords)
        except TypeError as error:
            raise TypeError(f"cupy.{name}{signature}: {error}") from None
    if name == "einsum" and (refused := keywords.keys() - {"dtype", "optimize"}):
        raise TypeError(f"Did not understand the following kwargs: {refused}")
    out = keywords.get("out")
    out = out[0] if isinstance(out, tuple) else out
    if out is not None and not isinstance(out, ndarray):
        raise TypeError(f"out: expected a CuPy array, got {type(out)}")
    with np.errstate(all="ignore"):
        given = arguments if name in HOST else inside(arguments)
        given = tuple(x._array if isinstance(x, ndarray) else x for x in given)
        result = function(*given, **{key: inside(value) for key, value in keywords.items()})
    if name.split(".")[-1] in WAITS or (name == "where" and len(arguments) == 1):
        copied(result)
    if name in ("allclose", "array_equal", "array_equiv"):
        result = np.bool_(result)
    return outside(result) if out is None else out


# The array ------------------------------------------------------------------------------------------------------------


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # the mixin's operators call ufuncs, which come to __array_ufunc__
    """An array of the device. It wraps NumPy's, and is none: a subclass would be converted in silence."""

    __slots__ = ("__weakref__", "_array")
    __array_priority__ = 100
    __hash__ = None
    __imatmul__ = lambda self, other: self @ other  # noqa: E731  CuPy has none, so Python makes a new array

    def __init__(self, array: Any):
        array = np.asarray(array)
        if array.dtype.char not in DTYPES and array.dtype.name != "bfloat16":
            raise ValueError(f"Unsupported dtype {array.dtype}")
        self._array = array

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *arguments: Any, **keywords: Any) -> Any:
        known = (ndarray, np.ndarray, *SCALARS)
        if ufunc.__name__ not in NAMES or not all(isinstance(x, known) for x in arguments[:2] if method != "at"):
            return NotImplemented  # so that the other operand is asked, as a Tensor should be
        return getattr(Ufunc(ufunc), method)(*arguments, **keywords)

    def __array_function__(self, function: Callable, types: Any, arguments: tuple, keywords: dict) -> Any:
        name = ".".join([*function.__module__.split(".")[1:], function.__name__])
        if name not in NAMES or not all(issubclass(t, (ndarray, np.ndarray)) for t in types):
            return NotImplemented
        owner = linalg if name.startswith("linalg.") else cupy  # by name alone, as CuPy does it
        return getattr(owner, function.__name__)(*arguments, **keywords)

    # Attributes and methods: those that CuPy has, and no dunder (``__array_interface__`` would let NumPy in)

    def __getattr__(self, name: str) -> Any:
        if f"ndarray.{name}" not in NAMES or name in ("data", "flat", "base", *LEFT_OUT):
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        value = getattr(self._array, name)
        if callable(value):
            return lambda *arguments, **keywords: computed(f"ndarray.{name}", value, arguments, keywords)
        return outside(value) if isinstance(value, np.ndarray) else value

    device = property(lambda self: cuda.Device(0))
    flags = property(lambda self: {f"{order}_CONTIGUOUS": self._array.flags[f"{order}_CONTIGUOUS"] for order in "CF"})

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator:
        return (self[i] for i in range(len(self)))

    def get(self) -> np.ndarray:
        return copied(self._array.copy())

    def item(self) -> Any:
        return copied(self._array.item())

    def tolist(self) -> Any:
        return copied(self._array.tolist())

    def __bool__(self) -> bool:
        return copied(bool(self._array))

    def __int__(self) -> int:
        return copied(int(self._array))

    def __float__(self) -> float:
        return copied(float(self._array))

    def __complex__(self) -> complex:
        return copied(complex(self._array))

    def __repr__(self) -> str:
        return copied(repr(self._array))

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: dict) -> ndarray:
        return self.copy()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)  # CUDA, the first

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("the memory is on the device")

    # Indexing

    def __getitem__(self, index: Any) -> ndarray:
        return ndarray(self._array[indices(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, (np.ndarray, list, tuple)):
            raise ValueError(f"non-scalar {type(value)} cannot be used for fill")
        index = indices(index)
        assigned_once(np.arange(self.size).reshape(self.shape)[index])
        self._array[index] = inside(value)


def indices(index: Any) -> Any:
    """An index that NumPy takes, if CuPy takes it. (CuPy uploads index arrays of the host, and so they are allowed.)"""
    parts = [x._array if isinstance(x, ndarray) else x for x in (index if isinstance(index, tuple) else (index,))]
    arrays = [np.asarray(x) for x in parts if isinstance(x, (np.ndarray, list, bool))]
    masks = [x for x in arrays if x.dtype == bool]
    if len(masks) > 1 or (masks and len(arrays) > 1):
        raise ValueError("currently, CuPy only supports slices that consist of one boolean array.")
    if masks:
        copied(masks)
    if any(isinstance(x, float) for x in parts):
        raise IndexError("only integers, slices, ellipsis, None and integer or boolean arrays are valid indices")
    return tuple(parts) if isinstance(index, tuple) else parts[0]


def assigned_once(places: Any) -> None:
    if np.unique(places).size != np.size(places):
        raise RuntimeError("one place is assigned to twice: which value stays is undefined in CuPy")


# The functions --------------------------------------------------------------------------------------------------------


class Ufunc:
    """CuPy's form of a ufunc: fewer keywords, and of the methods only some."""

    def __init__(self, ufunc: np.ufunc):
        self.ufunc, self.__name__ = ufunc, ufunc.__name__

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        for x in arguments:
            if not isinstance(x, (ndarray, *SCALARS)):
                raise TypeError(f"Unsupported type {type(x)}")
        if len(arguments) > self.ufunc.nin:
            arguments, keywords = arguments[: self.ufunc.nin], {**keywords, "out": arguments[self.ufunc.nin]}
        out = keywords.get("out")
        out = out[0] if isinstance(out, tuple) else out
        if isinstance(out, ndarray) and self.ufunc.signature is None:  # NumPy would broadcast the result into it
            shape = np.broadcast_shapes(*(np.shape(x) for x in arguments))
            if out.shape != shape:
                raise ValueError(f"out: expected the shape {shape}, got {out.shape}")
        return computed(self.__name__, self.ufunc, arguments, keywords)

    def at(self, array: ndarray, index: Any, values: Any = None) -> None:
        """Add (and the like) into an array, twice where a place is named twice."""
        if self.__name__ not in AT:
            raise NotImplementedError(f"`cupy_{self.__name__}.at` is not supported yet")
        if not isinstance(array, ndarray):
            raise TypeError(f"Unsupported type {type(array)}")
        if array.dtype.char not in AT[self.__name__]:
            raise TypeError(f"cupy.{self.__name__}.at does not support {array.dtype}")
        self.ufunc.at(array._array, indices(index), inside(values))

    def _method(self, method: str, allowed: tuple, arguments: tuple, keywords: dict) -> Any:
        if self.__name__ not in allowed:
            raise NotImplementedError(f"`cupy_{self.__name__}.{method}` is not supported yet")
        if refused := keywords.keys() - {"axis", "dtype", "out", "keepdims"}:
            raise TypeError(f"cupy.ufunc.{method}: unexpected keyword arguments {refused}")
        return outside(getattr(self.ufunc, method)(*inside(arguments), **inside_values(keywords)))

    def reduce(self, *arguments: Any, **keywords: Any) -> Any:
        return self._method("reduce", ("add", "multiply"), arguments, keywords)

    def accumulate(self, *arguments: Any, **keywords: Any) -> Any:
        return self._method("accumulate", ("add", "multiply"), arguments, keywords)

    def reduceat(self, *arguments: Any, **keywords: Any) -> Any:
        return self._method("reduceat", ("add",), arguments, keywords)

    def outer(self, a: Any, b: Any) -> Any:
        return outside(self.ufunc.outer(inside(a), inside(b)))


def inside_values(keywords: dict) -> dict:
    return {key: inside(value) for key, value in keywords.items()}


class Module(ModuleType):
    """``cupy``, ``cupy.linalg``: NumPy's functions by CuPy's names."""

    def __init__(self, name: str, numpy: Any):
        super().__init__(name)
        self.prefix, self.numpy = name.partition(".")[2], numpy

    def __getattr__(self, name: str) -> Any:
        full = f"{self.prefix}.{name}".lstrip(".")
        if full not in NAMES:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        thing = getattr(self.numpy, name, None)
        if thing is None or name in LEFT_OUT:
            raise NotImplementedError(f"CuPy has {full}, this stand-in does not")
        if isinstance(thing, np.ufunc):
            return Ufunc(thing)
        if isinstance(thing, type) or not callable(thing):
            return thing
        return lambda *arguments, **keywords: computed(full, thing, arguments, keywords)


class Device:
    """The stand-in has one device, number 0."""

    def __init__(self, number: int | None = None):
        self.id = 0 if number is None else int(number)

    def __enter__(self) -> Device:
        if self.id != 0:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Device) and self.id == other.id

    __hash__ = None

    def synchronize(self) -> None:
        pass


class CUDARuntimeError(RuntimeError):
    pass


class Generator:
    """``cupy.random.default_rng``: other numbers than NumPy's in truth, but arrays of the device either way."""

    def __init__(self, seed: Any = None):
        self._generator = np.random.default_rng(seed)

    def __getattr__(self, name: str) -> Any:
        if f"random.Generator.{name}" not in NAMES:
            raise AttributeError(f"'cupy.random.Generator' object has no attribute {name!r}")
        drawn = getattr(self._generator, name)
        return lambda *arguments, **keywords: computed(f"random.Generator.{name}", drawn, arguments, keywords)


cupy, linalg, random = Module("cupy", np), Module("cupy.linalg", np.linalg), Module("cupy.random", object())
cuda = ModuleType("cupy.cuda")
cuda.Device, cuda.is_available = Device, lambda: True
cuda.runtime = ModuleType("cupy.cuda.runtime")
cuda.runtime.CUDARuntimeError, cuda.runtime.getDeviceCount = CUDARuntimeError, lambda: 1
random.default_rng = random.Generator = Generator
cupy.ndarray, cupy.cuda, cupy.linalg, cupy.random = ndarray, cuda, linalg, random
cupy.is_available = cuda.is_available
cupy.get_array_module = lambda *arrays: cupy if any(isinstance(x, ndarray) for x in arrays) else np


def _asnumpy(array: Any) -> np.ndarray:
    return array.get() if isinstance(array, ndarray) else np.asarray(array)


def _from_dlpack(array: Any, *, device: Any = None, copy: bool | None = None) -> ndarray:
    if array.__dlpack_device__() != (2, 0):
        raise BufferError("the memory is not on this device")
    return array.copy() if copy else ndarray(array._array)


def _array(data: Any, dtype: Any = None, copy: bool = True, order: str = "K") -> ndarray:
    """``cupy.array``: from the host or the device, and always new memory unless the device has it already."""
    if not copy and isinstance(data, ndarray) and dtype in (None, data.dtype):
        return data
    data = inside(data) if isinstance(data, (ndarray, list, tuple)) and not _of_host(data) else data
    return ndarray(np.array(data, dtype=dtype, order=order))


def _of_host(data: Any) -> bool:
    return isinstance(data, np.ndarray) or (isinstance(data, (list, tuple)) and any(map(_of_host, data)))


def _put_along_axis(array: ndarray, indices: ndarray, values: Any, axis: int) -> None:
    assigned_once(np.take_along_axis(np.arange(array.size).reshape(array.shape), indices._array, axis))
    np.put_along_axis(array._array, indices._array, inside(values), axis)


cupy.array, cupy.asnumpy, cupy.from_dlpack, cupy.put_along_axis = _array, _asnumpy, _from_dlpack, _put_along_axis
cupy.asarray = lambda data, dtype=None, order="K": _array(data, dtype, copy=False, order=order)


@contextlib.contextmanager
def installed() -> Iterator[ModuleType]:
    """``import cupy`` finds the stand-in inside the block, and afterwards what it found before."""
    names = {m.__name__: m for m in (cupy, linalg, random, cuda, cuda.runtime)}
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(names)
    try:
        yield cupy
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
