"""Watching: what cells compute within their steps, their gates, say, to whoever wants to see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

# what is shown, by whom, and, where that is wanted, what each scan has shown
_seen: ContextVar[tuple[dict[str, list], set, list | None] | None] = ContextVar("seen", default=None)


@contextmanager
def watching(*cells: Any) -> Iterator[dict[str, list]]:
    """Collect what cells compute within their steps, by name: lists with an entry for each step of a scan, in time.

    Entry t is that of step t, in a scan that is reversed, too; None, if the step was not computed, as nobody had an
    input, or has not shown it. (Where only some sequences have one, the rows of the others mean nothing.) A second scan
    is put behind the first, and so is what another network calls by the same name: watch one of them at a time, where
    there are two. In a network a name begins with its layer and direction, as the weights do. What is collected is on
    the tape: it can be differentiated with regard to. Not so in a checkpointed scan, where it is constant; what is
    computed again is not shown again.

    A scan itself shows the state after each step, as ``"state"``, nested as the cell's is: what the next step starts
    from, where a mask has held it, too.

    Parameters
    ----------
    *cells : Cell
        Whose, with the cells within them; all, if none is named.

    Yields
    ------
    dict of str to list
        What was collected so far.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn import nn
    >>> x = np.ones((7, 2, 3), np.float32)
    >>> with watching() as seen:
    ...     ys, h = nn.scan(nn.GRUCell(3, 4, rng=0), x, lengths=[5, 2], reverse=True)
    >>> list(seen), seen["z"][0].shape, seen["z"][5:], seen["state"][0] is h
    (['r', 'z', 'n', 'state'], (2, 4), [None, None], True)
    >>> with watching() as seen:
    ...     ys, h = nn.GRU(3, 4, bidirectional=True, rng=0)(x)
    >>> list(seen)[3:5], len(seen["layers.0.backward.z"])
    (['layers.0.forward.state', 'layers.0.backward.r'], 7)
    """
    seen: dict[str, list] = {}
    token = _seen.set((seen, {module for cell in cells for module in cell.modules()}, None))
    try:
        yield seen
    finally:
        _seen.reset(token)


@contextmanager
def watching_scans(module: Any) -> Iterator[list[tuple[Any, tuple, dict[str, list]]]]:
    """Collect what the cells of a module show, each scan by itself: cell, shape of an input, what was shown."""
    scans: list = []
    token = _seen.set(({}, set(module.modules()), scans))
    try:
        yield scans
    finally:
        _seen.reset(token)


def show(cell: Any, named: dict[str, Any]) -> None:
    """Put values where those who watch that cell collect them; nobody does, as a rule."""
    if (watcher := _seen.get()) is not None:
        seen, cells, _ = watcher
        if not cells or cell in cells:
            for name, value in named.items():
                seen.setdefault(name, []).append(value)


@contextmanager
def unwatched() -> Iterator[None]:
    """What is computed here is nobody's concern."""
    token = _seen.set(None)
    try:
        yield
    finally:
        _seen.reset(token)


@contextmanager
def collected(scans: bool = False) -> Iterator[dict[str, list]]:
    """Keep apart what is shown here, by the same cells, to hand it on in another form. scans: those are no part of a
    step."""
    watcher, found = _seen.get(), {}
    token = _seen.set(watcher and (found, watcher[1], watcher[2] if scans else None))
    try:
        yield found
    finally:
        _seen.reset(token)


@contextmanager
def under(prefix: str) -> Iterator[None]:
    """What is shown here has names that begin with the prefix."""
    with collected(scans=True) as found:
        yield
    hand_on({prefix + name: values for name, values in found.items()})


@contextmanager
def in_time(xs: Any, cell: Any) -> Iterator[dict[int, dict] | None]:
    """What is shown at each step of a scan, by its number, handed on as lists in time; None, if nobody watches."""
    if (watcher := _seen.get()) is None:
        yield None
        return
    steps: dict[int, dict[str, list]] = {}
    yield steps
    names = dict.fromkeys(name for found in steps.values() for name in found)
    found = {name: [steps.get(t, {}).get(name, [None]) for t in range(len(xs))] for name in names}
    found = {name: [v[0] if len(v) == 1 else tuple(v) for v in values] for name, values in found.items()}
    hand_on(found)
    if watcher[2] is not None:
        watcher[2].append((cell, xs.shape[1:], found))


def noted(cell: Any, step: Callable, steps: dict[int, dict], times: Any) -> Callable:
    """The same step of that cell; what it shows, and the state after it, is kept apart, by its time."""
    numbers = iter(times)

    def noted_step(x: Any, state: Any) -> tuple[Any, Any]:
        with collected() as found:
            y, after = step(x, state)
        with collected() as own:
            show(cell, {"state": after})
        steps[next(numbers)] = found | own  # not the states of a scan within the step
        return y, after

    return noted_step


def hand_on(found: dict[str, list]) -> None:
    if (watcher := _seen.get()) is not None:
        for name, values in found.items():
            watcher[0].setdefault(name, []).extend(values)


def is_watched() -> bool:
    """Whether somebody watches, here and now."""
    return _seen.get() is not None
