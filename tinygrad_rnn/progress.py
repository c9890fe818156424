"""How far a long computation is: a bar on stderr, where tqdm is installed, or else nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any


def bar(progress: bool, **options: Any) -> Any:
    """A bar of tqdm's; None, where none is wanted, or tqdm is not installed (``pip install 'tinygrad_rnn[train]'``)."""
    if not progress:
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(dynamic_ncols=True, **options)


def counted(
    items: Iterable, progress: bool, description: str, unit: str = "step", total: int | None = None
) -> Iterator[Any]:
    """The items, one after another. What takes longer than two seconds is shown until it is over: on a terminal, and in
    a notebook, whose stderr is none."""
    hidden = False if in_notebook() else None  # None: shown on a terminal
    total = len(items) if total is None else total
    shown = bar(progress, total=total, desc=description, unit=unit, delay=2, leave=False, disable=hidden)
    try:
        for item in items:
            yield item
            if shown is not None:
                shown.update()
    finally:
        if shown is not None:
            shown.close()


def in_notebook() -> bool:
    """Whether stderr is what a kernel of Jupyter shows under a cell."""
    return type(sys.stderr).__module__.partition(".")[0] == "ipykernel"
