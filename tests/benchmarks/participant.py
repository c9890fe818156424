"""A framework that takes part in an experiment: its process, and its figures, round by round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from .experiments import Experiment

ROOT = Path(__file__).parents[2]
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS")
TOLERANCE = 1e-4  # of the greatest number in a gradient, in float32


class Failure(Exception):
    """A worker could not do what it was asked, for the reason that it says."""


class Worker:
    """The process of a framework, and what it said of itself: versions."""

    def __init__(self, name: str, threads: int | None = None):
        command = [sys.executable, "-m", f"{__package__}.engine", "--worker", name]
        environment = os.environ | {variable: str(threads) for variable in THREADS if threads}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        try:
            self.about = self._answer(120)
        except BaseException:
            self.close()
            raise

    def ask(self, task: str, limit: float, **sizes: Any) -> dict:
        """Have it do a task, in so many seconds at most."""
        sleep(0.05)  # the threads of the others' BLAS wait busily for a while when they have nothing left to do
        with suppress(BrokenPipeError):  # it has ended: that is its answer
            self.process.stdin.write(json.dumps({"task": task, **sizes}) + "\n")
            self.process.stdin.flush()
        return self._answer(limit)

    def _answer(self, limit: float) -> dict:
        timer = threading.Timer(limit, self.process.kill)
        timer.start()
        start = perf_counter()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            late = perf_counter() - start >= limit
            raise Failure(f"not done in {limit:.0f} s" if late else f"the process ended with {self.process.wait()}")
        answer = json.loads(line)
        if "failed" in answer:
            raise Failure(answer["failed"])
        return answer

    def close(self) -> None:
        self.process.kill()
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Participant:
    """A framework in an experiment. ``rounds`` are its figures; ``failed`` says why there are none."""

    def __init__(self, name: str, experiment: Experiment, threads: int | None):
        self.name, self.experiment, self.sizes, self.threads = name, experiment, experiment.sizes, threads
        self.rounds: list[dict] = []
        self.failed = ""
        self.reduced = ""  # why its sizes are the smaller ones
        self.versions: dict[str, str] = {}
        self.worker: Worker | None = None

    def take_turn(self) -> None:
        """One measurement, unless there was a failure; in smaller sizes, where the full ones failed."""
        if self.failed:
            return
        try:
            if self.worker is None or self.experiment.fresh:
                self.start()
            self.rounds.append(self.worker.ask(self.experiment.task, self.experiment.limit, **self.sizes))
        except Failure as failure:
            self.stop()
            self.rounds.clear()
            smaller = self.experiment.smaller
            if self.versions and smaller and not self.reduced:
                self.reduced, self.sizes = str(failure), smaller
                self.take_turn()
            else:
                self.failed = str(failure)

    def start(self) -> None:
        self.stop()
        self.worker = Worker(self.name, self.threads)
        self.versions = self.worker.about
        if self.experiment.order:
            checked = self.worker.ask("check", self.experiment.limit, order=self.experiment.order, **self.sizes)
            if not checked["error"] <= TOLERANCE:
                raise Failure(f"its gradients are wrong, by {checked['error']:.1e}")

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.close()
            self.worker = None
