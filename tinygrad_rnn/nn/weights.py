"""Weights and checkpoints in files: NumPy's ``.npz``, or ``.safetensors``. Neither can hold code, and none is run.

A file is replaced whole or not at all: whatever happens while it is written, what is under its name is the old file or
the new one. What cannot be read back exactly is refused, with a :class:`~tinygrad_rnn.CheckpointError`.
"""

from __future__ import annotations

import glob
import io
import json
import math
import os
import secrets
import shutil
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..arrays import move
from .exchange import array_in


class CheckpointError(ValueError):
    """A file of weights that is damaged, or that is none.

    Examples
    --------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "checkpoint.npz")
    >>> _ = Path(path).write_bytes(b"no weights")
    >>> load(path)
    Traceback (most recent call last):
    tinygrad_rnn.nn.weights.CheckpointError: ...checkpoint.npz: not a whole .npz file of arrays: ...
    """


def save(path: str | os.PathLike, state: Mapping[str, Any]) -> None:
    """Write arrays to a file, by their names: a ``state_dict``, or several in one dict.

    The file is replaced whole or not at all.

    Parameters
    ----------
    path : str or path
        Ends in ``.npz``, or in ``.safetensors`` (which needs the package of that name, and holds only numbers).
    state : mapping of str
        Arrays, tensors (also PyTorch's), numbers and strings; dicts in it are kept (a/b in the file).

    Raises
    ------
    ValueError
        The path ends in something else.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "checkpoint.npz")
    >>> save(path, {"model": {"weight": np.ones(2)}, "epoch": 3})
    >>> load(path)
    {'model': {'weight': array([1., 1.])}, 'epoch': array(3)}
    """
    path = Path(os.path.realpath(path))
    encode = {".npz": _to_npz, ".safetensors": _to_safetensors}[_format(path)]
    arrays = _flat(state)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):  # by a process that was killed
        if time.time() - left.stat().st_mtime > 3600:
            left.unlink(missing_ok=True)
    try:
        with open(scratch, "xb") as file:
            encode(arrays, file)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, scratch)
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def load(path: str | os.PathLike) -> dict[str, Any]:
    """Read what :func:`~tinygrad_rnn.save` wrote.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    dict
        NumPy arrays, nested as they were. Numbers and strings come back as 0-d arrays.

    Raises
    ------
    CheckpointError
        The file is damaged, or no such file. Nothing in it is ever executed.
    ValueError
        The path ends neither in ``.npz`` nor in ``.safetensors``.

    Examples
    --------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "weights.npz")
    >>> save(path, {"weight": np.ones(2)})
    >>> load(path)
    {'weight': array([1., 1.])}
    """
    path = Path(path)
    decode = {".npz": _from_npz, ".safetensors": _from_safetensors}[_format(path)]
    with open(path, "rb") as file:
        try:
            arrays = decode(file)
            if not arrays:
                raise ValueError("it holds no arrays")
            return _nested(arrays)
        except ImportError:
            raise
        except Exception as error:  # whatever zipfile, zlib, struct, NumPy and safetensors say of what they cannot read
            raise CheckpointError(f"{path}: not a whole {path.suffix} file of arrays: {error}") from error


def _format(path: Path) -> str:
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"path: expected a name that ends in .npz or .safetensors, got {str(path)!r}")
    return path.suffix


# Dicts in dicts, and one flat dict -----------------------------------------------------------------------------------


def _flat(state: Mapping[str, Any], above: str = "") -> dict[str, np.ndarray]:
    """The arrays of dicts in dicts, under names like paths."""
    if not isinstance(state, Mapping) or not state:
        raise TypeError(f"state{above and ' ' + repr(above)}: expected a dict that is not empty, got {state!r}")
    arrays = {}
    for name, value in state.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError(f"state: a name is a string without a slash, got {name!r}")
        name = f"{above}/{name}" if above else name
        if isinstance(value, Mapping):
            arrays |= _flat(value, name)
        else:
            array = np.asarray(move(array_in(value), "cpu"), order="C")
            if array.dtype.kind not in "biufcU":
                kind = f"{type(value).__name__} ({array.dtype})"
                raise TypeError(f"state {name!r}: expected numbers or a string, got {kind}")
            arrays[name] = array
    return arrays


def _nested(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for name, array in arrays.items():
        *above, last = name.split("/")
        place = state
        for part in above:
            place = place.setdefault(part, {})
        place[last] = array
    return state


# The two formats -----------------------------------------------------------------------------------------------------


def _to_npz(arrays: dict[str, np.ndarray], file: BinaryIO) -> None:
    """As np.savez writes it, but without the date: the same arrays make the same file."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(name + ".npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _from_npz(file: BinaryIO) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        file.seek(-12 - len(archive.comment), os.SEEK_END)  # zipfile does not look at how many there should be
        if int.from_bytes(file.read(2), "little") != min(len(members), 0xFFFF):
            raise ValueError("members of it are missing")
        if sum(member.file_size for member in members) > os.fstat(file.fileno()).st_size:
            raise ValueError("it would unpack to more than its own size (save it without compression)")
        for member in members:
            name, suffix = os.path.splitext(member.filename)
            if suffix != ".npy" or name in arrays:
                raise ValueError(f"{member.filename!r} in it is not an array, or not the only one of that name")
            if member.compress_type != zipfile.ZIP_STORED:  # which may unpack to more than it says
                raise ValueError(f"{name!r} is compressed (save it without compression)")
            arrays[name] = _array(name, archive.read(member))
    return arrays


def _array(name: str, content: bytes) -> np.ndarray:
    """The array in a ``.npy``, if its header says of how many bytes, before they are made room for."""
    data = io.BytesIO(content)
    version = np.lib.format.read_magic(data)
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in headers:
        raise ValueError(f"{name!r} is in version {version} of the format, which is for fields with names")
    shape, _, dtype = headers[version](data)
    if dtype.kind not in "biufcU" or not dtype.itemsize:
        raise ValueError(f"{name!r} holds {dtype}, and not numbers or a string")
    if math.prod(shape) * dtype.itemsize != len(content) - data.tell():
        raise ValueError(f"{name!r} is not as long as its header says")
    data.seek(0)
    return np.lib.format.read_array(data, allow_pickle=False)


def _to_safetensors(arrays: dict[str, np.ndarray], file: BinaryIO) -> None:
    for name, array in arrays.items():
        if array.dtype.kind == "U":
            raise TypeError(f"state {name!r}: .safetensors holds only numbers, got a string; save it as .npz")
    file.write(_safetensors().save(arrays, {"crc32": str(_checksum(arrays))}))


def _from_safetensors(file: BinaryIO) -> dict[str, np.ndarray]:
    content = file.read()
    arrays = _safetensors().load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    written = header.get("__metadata__", {}).get("crc32")  # ours: the format has none, and others write none
    if written not in (None, str(_checksum(arrays))):
        raise ValueError("its contents are not what was written")
    return arrays


def _checksum(arrays: dict[str, np.ndarray]) -> int:
    total = 0
    for name, array in sorted(arrays.items()):
        total = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), total)
        total = zlib.crc32(array.tobytes(), total)
    return total


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("a .safetensors file needs the package of that name: pip install safetensors") from error
    return safetensors.numpy
