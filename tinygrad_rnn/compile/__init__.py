"""Compiled scans: the loop of a cell, forward and backward, derived from its step and written out as source.

A scan on the tape pays Python's price for every operation of every step. Here a step is traced once, with the rules of
its operations (``trace.py``); passes move out of the loop what need not be in it (``passes.py``); what is left is
written out, as NumPy's statements (``source.py``) or Numba's kernels (``kernels.py``), and run (``program.py``).
Nothing is derived here: the rules are those of the tape, and the tape is what a program is tested against.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ..modes import is_observed
from ..nn.recurrent import name_of
from ..nn.watch import is_watched
from .numba_module import has_numba
from .traced import Untraceable

__all__ = ["Untraceable", "attempt", "compiled", "program_of"]

log = logging.getLogger(__name__)

MODES = ("auto", True, False, "numpy", "numba")
SHORT = 32  # steps: shorter scans are not worth a trace, and the tape of them can be read

_mode: ContextVar[Any] = ContextVar("compiled", default="auto")


class compiled:
    """How scans are run in a block, or a function, unless they say False: a context manager, and a decorator.

    Parameters
    ----------
    mode : {"auto", True, False, "numpy", "numba"}
        False: all on the tape, step by step, to be studied. True: all compiled, and an error says why one cannot be;
        ``"numpy"`` or ``"numba"``: the same, by these. ``"auto"``: as it is without.

    Raises
    ------
    ValueError
        There is no such mode.
    ImportError
        The mode is ``"numba"``, and Numba is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import tinygrad_rnn as tg
    >>> cell, x = tg.nn.RNNCell(3, 4, rng=0), np.ones((50, 2, 3), np.float32)
    >>> with compiled(True):
    ...     ys, h = tg.scan(cell, x)
    >>> with compiled(False):
    ...     on_tape, h = tg.scan(cell, x)
    >>> len(tg.tape(ys)) < 10, len(tg.tape(on_tape)) > 250, np.abs(ys.data - on_tape.data).max() < 1e-6
    (True, True, np.True_)
    """

    def __init__(self, mode: Any):
        self.mode = checked(mode)

    def __enter__(self) -> None:
        self.token = _mode.set(self.mode)

    def __exit__(self, *error: Any) -> None:
        _mode.reset(self.token)

    def __call__(self, function: Callable) -> Callable:
        @functools.wraps(function)
        def inner(*args: Any, **keywords: Any) -> Any:
            with compiled(self.mode):
                return function(*args, **keywords)

        return inner


def checked(mode: Any) -> Any:
    if not any(mode is known or (isinstance(mode, str) and mode == known) for known in MODES):
        raise ValueError(f"compiled: expected one of {', '.join(map(repr, MODES))}, got {mode!r}")
    if mode == "numba" and not has_numba():
        raise ImportError("compiled='numba' needs Numba: pip install 'tinygrad_rnn[fast]'")
    return mode


def attempt(mode: Any, cell: Any, xs: Any, *sequence: Any) -> tuple | None:
    """What a scan returns, by a program; None, if the tape is to compute it: because that is wanted, or it has to.

    With the mode ``"auto"`` scans of a few steps are left to the tape, and those that somebody watches. Which way a
    scan went, and why, is logged (``logging.getLogger("tinygrad_rnn.compile")``, level INFO).

    Parameters
    ----------
    mode : {"auto", True, False, "numpy", "numba"}
        What the scan was asked for; what :class:`~tinygrad_rnn.compile.compiled` says comes first.
    cell : Cell or callable
        What is scanned with.
    xs : array or Tensor, (T, ...)
        The inputs.
    *sequence : object
        What else :func:`~tinygrad_rnn.scan` has found out of a sequence: the state, the mask, the resets, the order and
        the times of its steps, whether all states are wanted, and what stands for padding.

    Returns
    -------
    tuple or None
        The outputs and the state, as the tape would have them.

    Raises
    ------
    Untraceable
        The mode is not ``"auto"``, and there can be no program.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn import nn
    >>> attempt("auto", nn.RNNCell(3, 4, rng=0), np.ones((7, 2, 3), np.float32)) is None      # so few steps
    True
    """
    outer = _mode.get()
    mode = outer if outer != "auto" else checked(mode)
    if mode is False:
        return None
    try:
        if mode == "auto" and len(xs) < SHORT:
            raise Untraceable(f"there are less than {SHORT} steps")
        if is_observed() or is_watched():
            raise Untraceable("somebody watches its steps")
        from .scanning import scanned

        backend = mode if mode in ("numpy", "numba") else "numba" if has_numba() else "numpy"
        result = scanned(cell, xs, *sequence, backend)
    except Untraceable as reason:
        if mode != "auto":
            raise Untraceable(f"{name_of(cell)}: it cannot be compiled, as {reason}: leave it to the tape, "
                              "compiled=False, or let compiled='auto' decide") from None  # fmt: skip
        log.info("%s: on the tape, as %s", name_of(cell), reason)
        return None
    log.info("%s: compiled, by %s", name_of(cell), backend)
    return result


def __getattr__(name: str) -> Any:
    """What programs are made by is imported when the first is made."""
    if name != "program_of":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .scanning import program_of

    return program_of
