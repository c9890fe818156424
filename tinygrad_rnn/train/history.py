"""What is seen of a run: its history, the file that it is logged to, and the bar that shows how far it is."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..plotting import axes
from ..progress import bar

SHOWN = 10  # records at either end of a history, where it is printed


class History(list):
    """The records of a run, one dict of numbers for each epoch, and how it ended.

    Parameters
    ----------
    records : iterable of dict of str to float, optional
        The records.
    ended : str, optional
        Why it ended: ``"epochs"``, ``"steps"``, ``"patience"``, ``"callback"``, or ``"interrupt"`` (Ctrl-C).

    Examples
    --------
    >>> history = History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    >>> history
    epoch    loss
        1     0.5
        2    0.25
    >>> history.column("loss")
    [0.5, 0.25]
    """

    def __init__(self, records: Iterable[dict[str, float]] = (), ended: str = ""):
        super().__init__(records)
        self.ended = ended

    @property
    def interrupted(self) -> bool:
        """Whether it was Ctrl-C that ended the run."""
        return self.ended == "interrupt"

    def column(self, name: str) -> list[float]:
        """What all records have under a name.

        Parameters
        ----------
        name : str
            The name: ``"loss"``, say.

        Returns
        -------
        list of float
            One for each epoch.

        Raises
        ------
        KeyError
            The records have nothing of that name.
        """
        if self and name not in self[0]:
            raise KeyError(f"name: expected one of {list(self[0])}, got {name!r}")
        return [record[name] for record in self]

    def plot(self, ax: Any = None) -> Any:
        """Draw the losses and the metrics over the epochs.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            What to draw on; by default new ones.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.

        Raises
        ------
        ImportError
            There are no axes, and matplotlib is not installed.
        """
        ax = axes(ax, extra="train")
        for name in self[0] if self else ():
            if name == "loss" or name.startswith("val_"):
                ax.plot(self.column("epoch"), self.column(name), label=name)
        ax.set_xlabel("epoch")
        if self:
            ax.legend()
        return ax

    def __repr__(self) -> str:
        if not self:
            return "History: no epoch has ended"
        names = list(self[0])
        rows = [names, *([shown(record[name]) for name in names] for record in self)]
        widths = [max(5, *map(len, column)) for column in zip(*rows)]
        lines = ["   ".join(f"{cell:>{width}}" for cell, width in zip(row, widths)) for row in rows]
        if len(self) > 2 * SHOWN:
            lines[SHOWN + 1 : -SHOWN] = ["..."]
        return "\n".join(lines)


def shown(number: float) -> str:
    return f"{number:.4g}" if isinstance(number, float) else str(number)


class Report:
    """Where it is shown how far a run is: on stderr, and in a file.

    Parameters
    ----------
    progress : bool
        A bar, where tqdm is installed (``pip install 'tinygrad_rnn[train]'``), or else a line an epoch.
    log : str, Path or None
        ``.csv``, the names in its first line, or ``.jsonl``: JSON, line by line. It has no NaN and no infinities: there
        they are null.
    """

    def __init__(self, progress: bool, log: str | os.PathLike | None):
        self.progress, self.log, self.bar, self.file = progress, log, None, None

    def begin(self, history: History, done: int, total: int | None) -> None:
        """Show that so many steps are done, of all; and log what there is already: the old file may have more."""
        if self.log is not None:
            Path(self.log).parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self.log, "w", newline="", encoding="utf-8")  # noqa: SIM115 (__exit__ closes it)
            self.empty = True
            for record in history:
                self.write(record)
        self.bar = bar(self.progress, initial=done, total=total, unit="step")

    def step(self, epoch: int, loss: float) -> None:
        if self.bar is not None:
            self.bar.set_description(f"epoch {epoch}", refresh=False)
            self.bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            self.bar.update()

    def epoch(self, record: dict[str, float]) -> None:
        line = "   ".join(f"{name} {shown(value)}" for name, value in record.items())
        if self.bar is not None:
            self.bar.write(line, file=sys.stderr)
        elif self.progress:
            print(line, file=sys.stderr)
        if self.file is not None:
            self.write(record)

    def write(self, record: dict[str, float]) -> None:
        """Log a record: it is in the file at once."""
        if str(self.log).endswith(".csv"):
            lines = csv.writer(self.file)
            if self.empty:
                lines.writerow(record)
            lines.writerow(record.values())
        else:
            known = {name: value if math.isfinite(value) else None for name, value in record.items()}
            self.file.write(json.dumps(known, allow_nan=False) + "\n")
        self.file.flush()
        self.empty = False

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *error: Any) -> None:
        for part in (self.bar, self.file):
            if part is not None:
                part.close()


def check_log(path: str | os.PathLike, may_be_there: bool) -> None:
    """Raise an error, if it is no name of a log, or of one that would be lost."""
    if Path(path).suffix not in (".csv", ".jsonl"):
        raise ValueError(f"log: expected a name that ends in .csv or .jsonl, got {str(path)!r}")
    if not may_be_there and os.path.exists(path):
        raise FileExistsError(f"log: {path} is there already: delete it, or take another name")
