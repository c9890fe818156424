"""The engine against its peers, in one command that prints one table:

    python -m tests.benchmarks.engine [--only NAME ...] [--rounds N] [--threads N] [--write docs/benchmarks.md]

Each framework computes in a process of its own, and they take turns: one round is one measurement of each, one after
the other, so that whatever else the machine does falls on all of them. Ratios are of the same round; the table has
their median, the least and the greatest. Before an LSTM is timed, everybody's gradients are compared with gradients
written by hand. A peer that is not installed, that fails or that takes too long is in the table as just that.

With ``--smoke``, the same in tiny sizes and without peers, in a few seconds: whether it runs; the times say nothing.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from .experiments import EXPERIMENTS, NUMPY, Experiment
from .participant import Participant
from .table import about, markdown, replace_section, rows


def main() -> int:
    """Measure what was asked for; 1 if one of our own programs failed, or its gradients are wrong."""
    options = arguments()
    if options.worker:
        from .worker import serve  # the process that asks for figures stays small: it does without NumPy

        serve(options.worker)
        return 0
    table, versions, failed = [], {}, False
    experiments = [experiment for experiment in EXPERIMENTS if not options.only or experiment.name in options.only]
    if options.smoke:
        experiments = [tiny(experiment) for experiment in {(e.name, str(e.tiny)): e for e in experiments}.values()]
    for experiment in experiments:
        participants = turns(experiment, options.rounds, options.threads)
        table += rows(experiment, participants)
        versions |= {key: value for p in participants for key, value in p.versions.items()}
        failed |= any(bool(p.failed or p.reduced) for p in participants if p.name in experiment.ours)
        print(f"{experiment.name}: done", file=sys.stderr)
    command = " ".join(["python -m tests.benchmarks.engine", *sys.argv[1:]])
    text = about(command, versions, options.rounds, options.threads) + "\n" + markdown(table)
    print(text)
    if options.write:
        replace_section(options.write, "## The engine", text)
    return int(failed)


def tiny(experiment: Experiment) -> Experiment:
    """The same program, but nothing to judge, and nobody to judge it by."""
    figures = [replace(figure, at_most=None, ratios={}) for figure in experiment.figures]
    others = [name for name in experiment.others if name == NUMPY]
    return replace(experiment, sizes=experiment.tiny, figures=figures, others=others)


def turns(experiment: Experiment, rounds: int, threads: int | None) -> list[Participant]:
    """Everybody's figures, taken in turns; what is measured in a living process is measured once before, to warm up."""
    participants = [Participant(name, experiment, threads) for name in experiment.ours + experiment.others]
    try:
        if not experiment.fresh:
            for participant in participants:
                participant.take_turn()
                participant.rounds.clear()
        for _ in range(min(rounds, experiment.most_rounds)):
            for participant in participants:
                participant.take_turn()
    finally:
        for participant in participants:
            participant.stop()
    return participants


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.engine", description=__doc__.partition("\n")[0])
    names = list(dict.fromkeys(experiment.name for experiment in EXPERIMENTS))
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"measure only: {', '.join(names)}")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each, in turns (default: 7)")
    parser.add_argument("--threads", type=int, help="threads for BLAS and the like (default: the libraries' own)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table to its section of a file, too")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, one round, no peers: whether it runs")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.rounds = 1 if options.smoke else max(1, options.rounds)
    return options


if __name__ == "__main__":
    sys.exit(main())
