"""How far a long computation is: a bar on stderr, where tqdm is installed, or else nothing."""

from __future__ import annotations

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
    """The items, one after another. What takes longer than two seconds is shown, on a terminal, until it is over."""
    total = len(items) if total is None else total
    shown = bar(progress, total=total, desc=description, unit=unit, delay=2, leave=False, disable=None)
    try:
        for item in items:
            yield item
            if shown is not None:
                shown.update()
    finally:
        if shown is not None:
            shown.close()
