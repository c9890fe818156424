"""What this package stands on, here: NumPy, its BLAS, and what is optional; and what would be a better choice.

Nothing is set or changed: what decides how fast a product is has to be said before NumPy is imported, by who runs it.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def show_config() -> None:
    """Print the versions and settings that results and speed depend on, with a hint where a better choice is known.

    Of OpenBLAS it says which processor's kernels it chose, and how many threads it has; CuPy is not imported for this.

    Examples
    --------
    >>> show_config()  # doctest: +ELLIPSIS
    tinygrad_rnn      ...
    """
    found = config()
    for name, value in found.items():
        if name != "hints":
            print(f"{name:<18}{'-' if value is None else value}")
    for hint in found["hints"]:
        print(f"\nHint: {hint}")


def config() -> dict[str, Any]:
    """What :func:`~tinygrad_rnn.show_config` prints, by name; None for what is not there.

    >>> config()["NumPy"] == np.__version__
    True
    """
    from . import __version__

    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    about = openblas("config", ctypes.c_char_p)
    kernels = openblas("corename", ctypes.c_char_p)
    found = {
        "tinygrad_rnn": __version__,
        "Python": f"{platform.python_version()}, {platform.system()}, {platform.machine()}, {os.cpu_count()} cores",
        "processor": processor(),
        "NumPy": np.__version__,
        "BLAS": " ".join(about.split()[:2]) if about else f"{blas.get('name')} {blas.get('version')}",
        "its kernels": kernels,
        "its threads": openblas("num_threads", ctypes.c_int),
        "Numba": version("numba"),
        "CuPy": version("cupy", "cupy-cuda13x", "cupy-cuda12x"),
        "environment": ", ".join(f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ) or None,
        "compiled kernels": str(cache_folder()),
    }
    return found | {"hints": hints(kernels, found["Numba"])}


def hints(kernels: str | None, numba: str | None) -> list[str]:
    """Better choices that are known, for OpenBLAS's choice of kernels, and the version of Numba."""
    found, name = [], "OPENBLAS_CORETYPE"
    if kernels in ("Haswell", "Zen") and has_avx512():
        remedy = f"unset {name}" if name in os.environ else f"export {name}=SKYLAKEX"
        found.append(
            f"this processor has AVX-512, and OpenBLAS runs its kernels for {kernels}, which do without. Large "
            f"products may take\nhalf the time after\n    {remedy}\nwhich has to come before NumPy is imported."
        )
    if numba is None:
        found.append("with Numba, compiled scans are several times as fast: pip install 'tinygrad_rnn[fast]'")
    return found


def cache_folder() -> Path:
    """Where compiled kernels are kept: ``$TINYGRAD_RNN_CACHE``, or a place in the user's cache directory."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(os.environ.get("TINYGRAD_RNN_CACHE") or os.path.join(home, "tinygrad_rnn"))


def version(*distributions: str) -> str | None:
    """That of the first of them that is installed."""
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return None


def openblas(what: str, kind: Any) -> Any:
    """What OpenBLAS says of itself, if that is NumPy's BLAS: the ``config``, the ``corename``, the ``num_threads``.

    It is asked by way of NumPy's own extension, which it is linked to: other libraries may have loaded another copy.
    """
    try:
        numpy = ctypes.CDLL(sys.modules["numpy._core._multiarray_umath"].__file__)
    except (KeyError, OSError):  # an older NumPy, or one that is no library of its own
        return None
    for name in (f"scipy_openblas_get_{what}64_", f"openblas_get_{what}64_", f"openblas_get_{what}"):
        if hasattr(numpy, name):
            ask = getattr(numpy, name)
            ask.restype = kind
            return answer.decode() if isinstance(answer := ask(), bytes) else answer
    return None


def processor() -> str:
    """What the processor calls itself, as far as the system says."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def has_avx512() -> bool:
    """Whether the processor has AVX-512, as NumPy sees it."""
    found = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])
    return any(name == "X86_V4" or name.startswith("AVX512") for name in found)
