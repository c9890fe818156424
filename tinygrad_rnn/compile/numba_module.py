"""What the generated kernels stand on: the functions they call, NumPy's own matrix product, and a place on disk.

Numba is optional (``pip install 'tinygrad_rnn[fast]'``). What it has compiled is kept on disk, next to the source, in
``$TINYGRAD_RNN_CACHE``, or else in the user's cache directory: the next process has it at once.
"""

from __future__ import annotations

import ctypes
import functools
import glob
import hashlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

from ..config import cache_folder

HEAD = '''"""Kernels that tinygrad_rnn has written."""

import math

import numpy as np
from numba import njit, types

real = np.{real}
FAST = {{"reassoc", "contract", "arcp", "nsz"}}  # not "nnan", and not "ninf": what is no number must stay none


@njit(error_model="numpy", inline="always")
def zero(x):
    return x * 0
'''

# tanh in single precision, to 2 units in the last place: a quotient of polynomials, without a branch, so that eight of
# them are computed at once (the coefficients are Eigen's). A NaN stays one: both comparisons with it are false.
SINGLE = """
@njit(fastmath=FAST, error_model="numpy", inline="always")
def tanh(x):
    x = real(-7.9) if x < real(-7.9) else real(7.9) if x > real(7.9) else x
    s = x * x
    p = real(-2.76076847742355e-16)
    p = p * s + real(2.00018790482477e-13)
    p = p * s + real(-8.60467152213735e-11)
    p = p * s + real(5.12229709037114e-08)
    p = p * s + real(1.48572235717979e-05)
    p = p * s + real(6.37261928875436e-04)
    p = p * s + real(4.89352455891786e-03)
    q = real(1.19825839466702e-06)
    q = q * s + real(1.18534705686654e-04)
    q = q * s + real(2.26843463243900e-03)
    q = q * s + real(4.89352518554385e-03)
    return x * p / q


@njit(fastmath=FAST, error_model="numpy", inline="always")
def sigmoid(x):
    return real(0.5) * tanh(real(0.5) * x) + real(0.5)
"""

# And in double precision: Cephes' quotients of polynomials, for tanh near 0, and for exp; the power of two by squares.
DOUBLE = """
@njit(error_model="numpy", inline="always")
def tanh(x):
    x = real(-20) if x < real(-20) else real(20) if x > real(20) else x
    s = x * x
    p = ((real(-9.64399179425052238628e-1) * s - real(9.92877231001918586564e1)) * s
         - real(1.61468768441708447952e3)) * s
    q = ((s + real(1.12811678491632931402e2)) * s + real(2.23548839060100448583e3)) * s + real(4.84406305325125486048e3)
    y = real(2) * abs(x)
    n = np.floor(y * real(1.4426950408889634) + real(0.5))
    r = y - n * real(6.93145751953125e-1) - n * real(1.42860682030941723212e-6)
    z = r * r
    u = r * ((real(1.26177193074810590878e-4) * z + real(3.02994407707441961300e-2)) * z + real(1))
    v = ((real(3.00198505138664455042e-6) * z + real(2.52448340349684104192e-3)) * z
         + real(2.27265548208155028766e-1)) * z + real(2)
    a = v - u
    b = v + u
    for step, power in ((32, 4294967296.0), (16, 65536.0), (8, 256.0), (4, 16.0), (2, 4.0), (1, 2.0)):
        large = n >= real(step)
        b = b * real(power) if large else b
        n = n - real(step) if large else n
    small = abs(x) < real(0.625)
    f = (x * p if small else real(2) * a) / (q if small else a + b)
    return x + f if small else f - real(1) if x < 0 else real(1) - f


@njit(error_model="numpy", inline="always")
def sigmoid(x):
    return real(1) / (real(1) + math.exp(-x))
"""

PRODUCT = '''
_int, _long, _real, _pointer = types.int32, types.int64, types.{real}, types.uintp
gemv = types.ExternalFunction("tinygrad_rnn_{letter}gemv", types.void(
    _int, _int, _long, _long, _real, _pointer, _long, _pointer, _long, _real, _pointer, _long))
gemm = types.ExternalFunction("tinygrad_rnn_{letter}gemm", types.void(
    _int, _int, _int, _long, _long, _long, _real, _pointer, _long, _pointer, _long, _real, _pointer, _long))


@njit(error_model="numpy")
def product(a, b, c):
    """c = a @ b, by BLAS, of matrices whose rows are whole; b may be a transpose.

    (There, row-major is 101; as it is, 111; transposed, 112.)
    """
    m, k = a.shape
    n = b.shape[1]
    if m == 0 or n == 0 or k == 0:
        c[...] = 0
        return
    size = {size}
    as_it_is = b.strides[1] == size
    rows_a, rows_c = max(a.strides[0] // size, k), max(c.strides[0] // size, n)  # of one row alone it may say less
    rows_b = max(b.strides[0] // size, n) if as_it_is else max(b.strides[1] // size, k)
    if m == 1 and as_it_is:
        gemv(101, 112, k, n, real(1), b.ctypes.data, rows_b, a.ctypes.data, 1, real(0), c.ctypes.data, 1)
    elif m == 1:
        gemv(101, 111, n, k, real(1), b.ctypes.data, rows_b, a.ctypes.data, 1, real(0), c.ctypes.data, 1)
    else:
        gemm(101, 111, 111 if as_it_is else 112, m, n, k, real(1), a.ctypes.data, rows_a, b.ctypes.data, rows_b,
             real(0), c.ctypes.data, rows_c)
'''


@functools.cache
def has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


@functools.cache
def has_product() -> bool:
    """Give Numba the products of the BLAS that NumPy has loaded: the same library, the same threads.

    (Numba's own ``np.dot`` calls SciPy's copy of it: a second pool of threads, which spin against NumPy's.)
    """
    import llvmlite.binding

    root = Path(np.__file__).parent
    for path in [*glob.glob(f"{root}.libs/*openblas*"), *glob.glob(f"{root}/.dylibs/*openblas*")]:
        library = ctypes.CDLL(path)
        if all(hasattr(library, f"scipy_cblas_{f}64_") for f in ("sgemm", "dgemm", "sgemv", "dgemv")):
            for f in ("sgemm", "dgemm", "sgemv", "dgemv"):
                address = ctypes.cast(getattr(library, f"scipy_cblas_{f}64_"), ctypes.c_void_p).value
                llvmlite.binding.add_symbol(f"tinygrad_rnn_{f}", address)
            return True
    return False


def source_of(kernels: list[str], loops: list[str], dtype: str) -> str:
    """The source of a module with these kernels, and loops that call them."""
    single = dtype == "float32"
    options = "fastmath=FAST, error_model='numpy', cache=CACHE"
    text = HEAD.format(real=dtype) + (SINGLE if single else DOUBLE)
    if loops:
        text += PRODUCT.format(real=dtype, letter="s" if single else "d", size=4 if single else 8)
    # A kernel that was only called could be either of two copies, its own or the one in the loop's object code, which
    # have been optimised, and so round, differently: the process that compiles would get one, those that load the other
    within = f"{options}, forceinline=True" if loops else options
    parts = [*((within, kernel) for kernel in kernels), *((options, loop) for loop in loops)]
    return text + "".join([f"\n\n@njit({options})\n{function}\n" for options, function in parts])


@functools.cache
def module_of(source: str) -> ModuleType:
    """The module with this source, compiled before if it can be: kept on disk, if that can be written to."""
    if "product(" in source:
        has_product()
    name = f"tinygrad_rnn_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    path = kept_on_disk(name, source)
    source = f"CACHE = {path is not None}\n" + source
    spec = (
        importlib.util.spec_from_loader(name, None)
        if path is None
        else importlib.util.spec_from_file_location(name, path)
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where Numba looks for what it has kept
    if path is None:
        exec(compile(source, f"<{name}>", "exec"), module.__dict__)
    else:
        spec.loader.exec_module(module)
    return module


def kept_on_disk(name: str, source: str) -> str | None:
    """Write a module's source into the cache; where it is, if that was possible."""
    folder = cache_folder()
    path = folder / f"{name}.py"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            own = folder / f"{name}.{os.getpid()}"
            own.write_text("CACHE = True\n" + source)
            own.replace(path)  # at once: another process may be doing the same
        return str(path)
    except OSError:
        return None
