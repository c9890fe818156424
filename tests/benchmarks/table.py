"""The results as a Markdown table, and what they were measured on."""

from __future__ import annotations

import datetime
import os
import platform
import re
import statistics
from collections.abc import Iterable
from pathlib import Path

from tinygrad_rnn.config import processor

from .experiments import Experiment, Figure
from .participant import Participant

HEADER = ["What", "tinygrad_rnn", "Against", "Theirs", "Ours / theirs (of the rounds)", "Target", "Met"]


def rows(experiment: Experiment, participants: list[Participant]) -> Iterable[list[str]]:
    """For each figure and each of our own: its absolute target, and one row for each of the others."""
    ours = [p for p in participants if p.name in experiment.ours]
    others = [p for p in participants if p.name not in experiment.ours]
    for figure in experiment.figures:
        for mine in ours:
            what = ", ".join(filter(None, [experiment.title.format(**experiment.sizes), figure.title]))
            what += " (tg.scan)" if len(ours) > 1 and mine is not ours[0] else ""
            if figure.at_most is not None or not others:
                target = "" if figure.at_most is None else f"≤ {number(figure.at_most, figure.unit)}"
                measured = [] if mine.reduced else values(mine, figure)
                yield [what, shown(mine, figure), "", "", "", target, met(measured, figure.at_most)]
            for other in others:
                limit, of_rounds = figure.ratios.get(other.name), ratios(mine, other, figure)
                target = "" if limit is None else f"≤ {limit:.3g}"
                theirs = [other.name, shown(other, figure), spread(of_rounds)]
                yield [what, shown(mine, figure), *theirs, target, met(of_rounds, limit)]


def values(participant: Participant, figure: Figure) -> list[float]:
    return [figures[figure.key] for figures in participant.rounds]


def ratios(mine: Participant, other: Participant, figure: Figure) -> list[float]:
    """Of the same rounds, in the full sizes."""
    if mine.reduced or other.reduced:
        return []
    return [a / b for a, b in zip(values(mine, figure), values(other, figure)) if b > 0]


def met(measured: list[float], limit: float | None) -> str:
    if limit is None:
        return ""
    return "not measured" if not measured else "yes" if statistics.median(measured) <= limit else "**no**"


def shown(participant: Participant, figure: Figure) -> str:
    """The median; or why there is none, or for which sizes only."""
    if participant.failed:
        return participant.failed
    median = number(statistics.median(values(participant, figure)), figure.unit)
    if participant.reduced:
        sizes = ", ".join(f"{key}={value}" for key, value in participant.sizes.items())
        return f"{participant.reduced}; with {sizes}: {median}"
    return median


def spread(of_rounds: list[float]) -> str:
    if not of_rounds:
        return ""
    return f"{statistics.median(of_rounds):.2f} ({min(of_rounds):.2f} to {max(of_rounds):.2f})"


def number(value: float, unit: str) -> str:
    """Three digits, with a unit of their size."""
    if unit != "s" or value >= 1:
        return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}".rstrip()
    return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} µs"


def markdown(table: Iterable[list[str]]) -> str:
    cells = [HEADER, *[[cell.replace("|", "\\|") for cell in row] for row in table]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEADER))]
    cells.insert(1, ["-" * width for width in widths])
    return "".join(f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths))} |\n" for row in cells)


def about(command: str, versions: dict[str, str], rounds: int, threads: int | None) -> str:
    """What was run, when, and on what."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {
        "Command": f"`{command}`",
        "Date": datetime.date.today().isoformat(),
        "Processor": f"{processor()}, {cores} cores",
        "System": f"{platform.system()}, {platform.machine()}",
        "Threads": str(threads or "the libraries' defaults"),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return "".join(f"- {key}: {value}\n" for key, value in facts.items()) + (
        f"\nFigures are medians (rounds: {rounds}, fewer where one takes long); the frameworks take turns, each in a "
        "process of\nits own. Ratios are of the same round: their median (the least to the greatest). "
        "NumPy is the LSTM written by\nhand, without a tape.\n"
    )


def replace_section(path: Path, title: str, text: str) -> None:
    """Put a text under a title of a file, in the place of what was there."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    section = re.compile(rf"^{re.escape(title)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    new = f"{title}\n\n{text.rstrip()}\n"
    there = section.search(before)
    after = section.sub(lambda _: new + "\n", before) if there else f"{before.rstrip()}\n\n{new}"
    path.write_text(after.rstrip() + "\n", encoding="utf-8")
