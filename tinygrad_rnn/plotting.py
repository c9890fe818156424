"""What a figure is drawn on, for every method ``plot`` of the package. It knows no figure: each result draws its own.

matplotlib is imported here, when something is drawn, and nowhere before.
"""

from __future__ import annotations

from typing import Any


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
