"""How a script of the lectures is run: block by block, as the book does it.

A block begins at a line ``# %%``. After each, the figures that are open are taken, and closed: they are what a reader
sees below its code. So a figure has to be made and drawn in one block. What is drawn into it later would be lost; that
is an error here, and so is a figure with an empty panel, in ``python -m examples.lectures`` and in the book.
"""

from __future__ import annotations

import ast
import codeop
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any


def blocks(path: Path) -> Iterator[tuple[int, ast.Module]]:
    """The line on which each block begins, and its code, which keeps the lines of the file."""
    text = path.read_text(encoding="utf-8")
    starts = [1, *(number for number, line in enumerate(text.splitlines(), 1) if re.match("# ?%%|#{20}", line))]
    tree = ast.parse(text, str(path))
    for start, end in zip(starts, [*starts[1:], sys.maxsize]):
        statements = [statement for statement in tree.body if start <= statement.lineno < end]
        if statements:
            yield start, ast.Module(statements, [])


def run(path: Path) -> list:
    """The figures that a script makes. It is run with matplotlib's defaults, and none are left open from before."""
    import matplotlib.pyplot as plt

    plt.close("all")
    plt.rcdefaults()
    figures: list = []
    compiled = codeop.Compile()  # which remembers "from __future__"
    main, before = ModuleType("__main__"), sys.modules["__main__"]
    main.__file__ = str(path)
    sys.modules["__main__"] = main
    sys.path.insert(0, str(path.parent))  # as it is when the script is started by itself
    try:
        for line, code in blocks(path):
            exec(compiled(code, str(path), "exec"), vars(main))
            figures += take(figures, f"{path.name}, the block at line {line}")
    finally:
        sys.path.remove(str(path.parent))
        sys.modules["__main__"] = before
        plt.close("all")
    return figures


def take(earlier: list, where: str) -> list:
    """The figures that a block left open, which are closed; it must not have drawn into earlier ones."""
    import matplotlib.pyplot as plt

    figures = [plt.figure(number) for number in plt.get_fignums()]
    check(figures, earlier, where)
    plt.close("all")
    settle(figures)
    return figures


def check(figures: list, earlier: list, where: str) -> None:
    """An error, if a figure has nothing on one of its axes, or an earlier one was drawn into after it was settled."""
    for number, figure in enumerate(figures, 1):
        empty = [str(i) for i, axes in enumerate(figure.axes, 1) if not shows(axes)]
        if empty or not figure.axes:
            what = f"axes {', '.join(empty)} of its figure {number}" if empty else f"its figure {number}"
            raise RuntimeError(f"{where}: nothing is drawn on {what}; make a figure and draw it in one block")
    if any(figure.stale for figure in earlier):
        raise RuntimeError(f"{where}: it draws into the figure of an earlier block, which has been taken and closed")


def settle(figures: list) -> None:
    """From now on matplotlib marks them as stale when they are drawn into."""
    for figure in figures:
        figure.stale = False


def shows(axes: Any) -> bool:
    """Whether there is anything on these axes but the axes."""
    return bool(axes.has_data() or axes.texts or axes.artists or axes.tables)
