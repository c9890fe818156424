"""What the figures of all experiments have in common: Matplotlib, without a window, and where they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def pyplot() -> Any:
    """Matplotlib's, which draws into files. It is loaded here, when the first figure is drawn."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def saved(figure: Any, path: Path) -> Path:
    """The path, where the figure is now; it is closed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot().close(figure)
    return path
