"""What a figure is drawn on, for every method ``plot`` of the package. It knows no figure: each result draws its own.

matplotlib is imported here, when something is drawn, and nowhere before.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def axes(ax: Any = None, rows: int = 1, columns: int = 1, extra: str = "analysis", **keywords: Any) -> Any:
    """Axes of matplotlib's: those that are given, or new ones.

    Parameters
    ----------
    ax : matplotlib Axes, or an array of them, optional
        Returned as they are.
    rows, columns : int, optional
        Of the new figure; where there are several, the result is an array of axes, as of ``plt.subplots``.
    extra : str, optional
        The extra of this package that brings matplotlib, for the error message.
    **keywords
        For ``plt.subplots``: ``figsize``, ``sharex``, ``subplot_kw``, ...

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(f"plot: it needs matplotlib: pip install 'tinygrad_rnn[{extra}]'") from error
    return plt.subplots(rows, columns, layout="constrained", **keywords)[1]


def log_line(ax: Any, x: np.ndarray, y: np.ndarray, *style: Any, **keywords: Any) -> None:
    """A line on a logarithmic axis, of what can be there: where y is a number above 0."""
    there = np.isfinite(y) & (y > 0)
    ax.semilogy(x[there], y[there], *style, **keywords)


def log_image(ax: Any, x: np.ndarray, y: np.ndarray, values: np.ndarray, **keywords: Any) -> None:
    """log10 of norms, (len(y), len(x)), as an image, with a bar of its colours; without colour, where there is none.

    keywords: for ``ax.pcolormesh``. Places are the middles of cells, also where those are shaded smoothly.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        image = np.ma.masked_invalid(np.log10(values))
    options = {"cmap": "viridis", "shading": "nearest", **keywords}
    if options["shading"] in ("nearest", "auto"):  # matplotlib's own borders fail for a single place
        options["shading"] = "flat"
    places = (borders(x), borders(y)) if options["shading"] == "flat" else (x, y)
    shown = ax.pcolormesh(*places, image, **options)
    ax.figure.colorbar(shown, ax=ax, label="$\\log_{10}$ of the norm")


def borders(places: np.ndarray) -> np.ndarray:
    """The borders between places, and around the first and the last."""
    if len(places) == 1:
        return places[0] + np.array([-0.5, 0.5])
    middles = (places[1:] + places[:-1]) / 2
    return np.array([2 * places[0] - middles[0], *middles, 2 * places[-1] - middles[-1]])
