"""What CuPy 14.2 offers, by name: the table ``cupy_names.txt``, how it is read, and how it was made from the wheel.

One line a name: ``pi``, ``sum(a, axis=None, ...)``, ``add ufunc``, with ``linalg.``, ``random.`` or ``ndarray.`` before
it. A default other than None is not kept: the table says what may be given, not what happens. To make it again, where
CuPy is installed (it needs no GPU to be imported): ``python tests/cupy_names.py > tests/cupy_names.txt``.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

VERSION = "14.2"
PLACES = ("", "linalg", "random", "ndarray", "random.Generator")


def read() -> dict[str, inspect.Signature | str | None]:
    """For each name its signature, ``"ufunc"``, or None where it cannot be called or does not say how."""
    table: dict[str, inspect.Signature | str | None] = {}
    for line in Path(__file__).with_name("cupy_names.txt").read_text().splitlines():
        name, parameters, kind = re.fullmatch(r"([\w.]+)(?:\((.*)\))?( ufunc)?", line).groups()
        if parameters is not None:
            table[name] = inspect.signature(eval(f"lambda {parameters}: None"))
        else:
            table[name] = kind and kind.strip()
    return table


def listed(cupy: ModuleType) -> list[str]:
    """The lines of the table, from the module itself."""
    lines = []
    for place in PLACES:
        owner: Any = cupy
        for part in filter(None, place.split(".")):
            owner = getattr(owner, part)
        lines += [
            line(f"{place}.{name}".lstrip("."), getattr(owner, name)) for name in dir(owner) if not name.startswith("_")
        ]
    return lines


def line(name: str, thing: Any) -> str:
    """One line: what Python knows of its parameters, or, for what is compiled, what its documentation begins with."""
    if type(thing).__name__ in ("ufunc", "_GUFunc"):
        return f"{name} ufunc"
    if isinstance(thing, type) or not callable(thing):
        return name
    try:
        signature = str(inspect.signature(thing))
    except ValueError:
        signature = (thing.__doc__ or "").split("\n")[0]
    found = re.search(r"\((.*)\)", signature)
    return f"{name}({parameters(found[1])})" if found else name


def parameters(text: str) -> str:
    """``self, Py_ssize_t axis1, copy=True`` in Python: ``axis1, copy=None``."""
    text = re.sub(r"<[^>]*>|'[^']*'|\([^)]*\)|\\", "", text)
    names = []
    for part in filter(str.strip, text.split(",")):
        name = part.split("=")[0].split(":")[0].split()[-1]
        names += [name + "=None" * ("=" in part)] if name != "self" else []
    return ", ".join(names)


if __name__ == "__main__":
    import cupy

    print("\n".join(listed(cupy)))
