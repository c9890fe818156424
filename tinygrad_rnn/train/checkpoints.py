"""Checkpoints: all that a run is made of, in one file, from which it goes on as if it had never stopped.

A file is an ``.npz`` of :func:`tinygrad_rnn.save`: whole or not there, and never code. What is not an array in it is
JSON. All of it is checked before anything changes; what does not fit is refused, by a :class:`CheckpointError`. (But
for the shapes of a network's state within a sequence, which the network alone knows: its next step refuses them.)
"""

from __future__ import annotations

import itertools
import json
import math
import re
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import trees
from ..arrays import is_array, move
from ..errors import described
from ..nn.weights import CheckpointError, load, save
from ..ops.checkpoint import set_states, states
from ..tensor import Tensor, bare
from .settings import differences, settings_of_parts, since

OTHER_SEED = "rng: another seed in the checkpoint: pass the same; or None, which takes that of the checkpoint"
WAY_OUT = (
    "Pass what the run began with. To change it on purpose, begin another run from there: load tg.load(path)['model'] "
    "and ['optimizer'] by load_state_dict, set what is to be other, and give fit() another folder"
)
WATCHED = ("monitor", "mode", "validation")  # what says which epoch is better
SUMS = ("loss", "norm", "counted", "looked", "skipped", "lr", "seconds")


@dataclass
class Run:
    """Where a run is, apart from its weights: all that fit() counts, adds up and remembers.

    Parameters
    ----------
    seed : list of int
        Of the order of the data.
    epoch, batch, begin : int, optional
        How many epochs are done; of the next one, how many batches; of the next batch, how many steps in time (of a run
        by windows).
    step : int, optional
        The updates so far, in all epochs.
    sums : dict of str to float, optional
        Over the steps of this epoch: of losses and norms, and how many there are of each.
    records : list of dict, optional
        One for each epoch.
    best : float, optional
        The best value of what is monitored.
    bad : int, optional
        For how many epochs there has been no better one. Both are counted whether anybody asks for them or not, so that
        patience may be another one where the run goes on.
    weights : dict, optional
        Those of the best epoch, if they are wanted.
    state : Tensor, or a nest of them, optional
        That of the network, within a batch, of a run by windows.
    """

    seed: list[int]
    epoch: int = 0
    batch: int = 0
    begin: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SUMS, 0))
    records: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    bad: int = 0
    weights: dict[str, Any] | None = None
    state: Any = None

    def add(self, after: tuple, loss: float, norm: float | None, lr: float, skips: bool, seconds: float) -> None:
        """Count a step, and go on to the position after it."""
        self.step, (self.batch, self.begin) = self.step + 1, after
        self.state = self.state if self.begin else None
        sums = self.sums
        sums["lr"], sums["seconds"] = lr, sums["seconds"] + seconds
        if skips and not math.isfinite(norm):
            sums["skipped"] += 1
            return
        sums["loss"], sums["counted"] = sums["loss"] + loss, sums["counted"] + 1
        if norm is not None:
            sums["norm"], sums["looked"] = sums["norm"] + norm, sums["looked"] + 1

    @property
    def position(self) -> tuple:
        return self.epoch, self.batch, self.begin, self.step

    @property
    def loss(self) -> float:
        """The mean over the steps of this epoch."""
        return self.sums["loss"] / self.sums["counted"] if self.sums["counted"] else math.nan

    def record(self, found: dict[str, float], seconds: float) -> dict[str, float]:
        """What there is to say of this epoch."""
        sums = self.sums
        sums["seconds"] += seconds
        return {
            "epoch": self.epoch + 1, "step": self.step, "loss": self.loss,
            "norm": sums["norm"] / sums["looked"] if sums["looked"] else math.nan,
            "skipped": sums["skipped"], "lr": sums["lr"], **found, "seconds": sums["seconds"],
        }  # fmt: skip

    def next_epoch(self) -> None:
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, dict.fromkeys(SUMS, 0)

    def measured(self, names: Iterable[str]) -> dict[str, float]:
        """NaN for all that has been measured or will be: records that have nothing else of it get that."""
        before = [name for name in (self.records[0] if self.records else ()) if name.startswith("val_")]
        nothing = dict.fromkeys([*before, *names], math.nan)
        for i, record in enumerate(self.records):
            if record.keys() >= nothing.keys():
                continue
            head = {name: x for name, x in record.items() if name not in nothing and name != "seconds"}
            found = {name: record.get(name, x) for name, x in nothing.items()}
            self.records[i] = {**head, **found, "seconds": record.get("seconds", math.nan)}
        return nothing

    def compare(self, value: float, mode: str, weights: dict[str, Any] | None) -> None:
        """Whether this epoch is the best one (NaN never is): then its weights are kept, if they are given."""
        sign = 1 if mode == "min" else -1
        if not math.isnan(value) and (self.best is None or sign * value < sign * self.best):
            self.best, self.bad, self.weights = value, 0, weights
        else:
            self.bad += 1


@dataclass
class Checkpoints:
    """The checkpoints of one run, in a folder of their own: ``step-000000001000.npz``, the last few of them.

    Parameters
    ----------
    folder : Path
        Where they are.
    keep : int
        How many are kept.
    parts : dict of str to object
        What has a state_dict: the model, the optimiser, the schedule.
    generators : sequence of Generator
        What is drawn from in training.
    settings : dict
        What has to be the same where a run is resumed, as it was when the run began.
    task : object or None
        What the data are drawn from, if they are: it, too, may be changed while the run goes on.
    watched : bool
        Whether it matters which epoch is the best.
    last : tuple, optional
        The position in the last one.
    """

    folder: Path
    keep: int
    parts: dict[str, Any]
    generators: Sequence[np.random.Generator]
    settings: dict[str, Any]
    task: Any
    watched: bool
    last: tuple = ()  # the position in the last one

    def files(self) -> list[Path]:
        """Those that there are, the newest last."""
        return sorted(p for p in self.folder.glob("step-*.npz") if re.fullmatch(r"step-\d{12}\.npz", p.name))

    def write(self, run: Run) -> None:
        """Write one; then remove the oldest, and what a process that was killed left half written."""
        if run.position == self.last:
            return
        leaves, _ = trees.flatten(run.state)
        known = {name: value for name, value in vars(run).items() if name not in ("weights", "state")}
        known |= {"form": form_of(run.state), "generators": states(self.generators)}
        known |= {"settings": {"begun": self.settings, "now": self.now()}}
        content = {name: part.state_dict() for name, part in self.parts.items()}
        content |= {"best": run.weights, "state": {str(i): bare(leaf) for i, leaf in enumerate(leaves)}}
        content = {name: part for name, part in content.items() if part}  # no dict in a file is empty
        content["run"] = np.frombuffer(json.dumps(known, default=lambda x: x.tolist()).encode(), np.uint8)
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(".step-*.npz.*.tmp"):
            left.unlink(missing_ok=True)
        save(self.folder / f"step-{run.step:012}.npz", content)
        for old in self.files()[: -self.keep]:
            old.unlink(missing_ok=True)
        self.last = run.position

    def read(self, path: Path, seed: list[int] | None) -> Run:
        """Load one: into the parts and the generators, and the rest into what is returned; or change nothing.

        Parameters
        ----------
        path : Path
            The file.
        seed : list of int or None
            That of the run, if it is known.

        Returns
        -------
        Run
            Where it was.

        Raises
        ------
        CheckpointError
            It is damaged, or of another run.
        """
        content = load(path)
        before = {name: part.state_dict() for name, part in self.parts.items()}
        draws = states(self.generators)
        try:
            return self._taken(content, seed)
        except BaseException as error:
            for name, part in self.parts.items():
                part.load_state_dict(before[name])
            set_states(self.generators, draws)
            if not isinstance(error, Exception):
                raise
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            raise CheckpointError(f"{path}: it does not fit this run: {reason}") from error

    def _taken(self, content: dict[str, Any], seed: list[int] | None) -> Run:
        written = content.pop("run", None)
        if not is_array(written) or written.dtype != np.uint8:
            raise ValueError("it is a file of weights, perhaps, but not a checkpoint of fit()")
        known = json.loads(written.tobytes())
        form, settings, draws = (known.pop(name) for name in ("form", "settings", "generators"))
        run = Run(**checked(known))
        settings = self._compared(settings, run, others=[] if seed in (None, run.seed) else [OTHER_SEED])
        if len(draws) != len(self.generators):
            raise ValueError(f"expected the states of {len(self.generators)} random generators, got {len(draws)}")
        device = next((p.device for p in self.parts["model"].parameters()), "cpu")
        run.state = tree_of(form, content.pop("state", {}), device)
        if (best := content.pop("best", None)) is not None:
            self.parts["model"].load_state_dict(best)  # to see whether it fits; what it is now comes next
            run.weights = self.parts["model"].state_dict()
        if unknown := content.keys() - self.parts.keys():
            raise ValueError(f"it has {sorted(unknown)}, too, which this run has not")
        for name, part in self.parts.items():
            part.load_state_dict(content.get(name, {}))
        set_states(self.generators, draws)
        self.last, self.settings = run.position, settings
        return run

    def _compared(self, settings: Any, run: Run, others: list[str]) -> dict[str, Any]:
        """The settings that it began with, if those that are given now are the same; else an error that lists all.

        What a schedule or a callback has changed on the way may also be as it was when the checkpoint was written; or,
        in the process that went on from there, as it was left.
        """
        known = isinstance(settings, dict) and settings.keys() == {"begun", "now"}
        begun, now = (settings["begun"], settings["now"]) if known else ({}, {})
        if not (isinstance(begun, dict) and isinstance(now, dict) and begun.keys() == self.settings.keys()):
            raise ValueError("it says other things of its settings than this version of the package: its weights can "
                             "be loaded, tg.load(path)['model']")  # fmt: skip
        differing = differences(begun, self.settings)
        for also in (now, self._left()):
            still = [*differences(begun | also, self.settings)]
            differing = {name: line for name, line in differing.items() if any(within(name, other) for other in still)}
        if begun["monitor"] == self.settings["monitor"] == "loss":
            differing = {name: line for name, line in differing.items() if not within("validation", name)}
        watching = {name for name in differing if any(within(watched, name) for watched in WATCHED)}
        if not self.watched:  # nothing depends on it so far
            differing = {name: line for name, line in differing.items() if name not in watching}
        if lines := [*differing.values(), *others]:
            raise ValueError("\n  ".join(["it was made with other settings:", *lines]) + f"\n{WAY_OUT}")
        if watching:  # it is another measure now, and the best by it is still to come
            run.best, run.bad = None, 0
            begun = begun | {name: self.settings[name] for name in WATCHED}
        return begun

    def now(self) -> dict[str, Any]:
        """The settings that may have changed since."""
        said = settings_of_parts(*map(self.parts.get, ("model", "optimizer", "schedule")))
        return said | {"data": since(self.settings["data"], self.task)}

    def _changing(self) -> dict[str, Any]:
        return self.parts | {"data": self.task}

    def _left(self) -> dict[str, Any]:
        """The settings of those parts that are the very ones that a run in this folder left, in this process."""
        left = {name: (part, *LEFT.get((self.folder.resolve(), name), ())) for name, part in self._changing().items()}
        return {name: known[1] for name, (part, *known) in left.items() if known and known[0]() is part}

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """After a block, however it ends, it is known how it has left its parts."""
        try:
            yield
        finally:
            now = self.now()
            for name, part in self._changing().items():
                with suppress(TypeError):  # some objects have no weak references
                    LEFT[self.folder.resolve(), name] = weakref.ref(part), now[name]


LEFT: dict[tuple[Path, str], tuple[weakref.ref, Any]] = {}  # by folder: the parts of its run, and their settings then


def within(name: str, other: str) -> bool:
    """Whether of two dotted names, such as differences have, one is of a part of the other."""
    parts, others = (re.split(r"[.[]", text) for text in (name, other))
    return all(a == b for a, b in zip(parts, others))


def checked(known: dict[str, Any]) -> dict[str, Any]:
    """What was written of a run, if it is of the right kinds."""
    expected = set(Run.__dataclass_fields__) - {"weights", "state"}
    if not isinstance(known, dict) or known.keys() != expected:
        raise ValueError(f"expected {sorted(expected)} in it, got {described(known)}")

    def count(value: Any) -> bool:
        return type(value) is int and 0 <= value < 2**62

    def numbers(value: Any) -> bool:
        return isinstance(value, dict) and all(type(x) in (int, float) for x in value.values())

    right = {
        **{name: count(known[name]) for name in ("epoch", "batch", "begin", "step", "bad")},
        "seed": isinstance(known["seed"], list) and all(map(count, known["seed"])),
        "sums": numbers(known["sums"]) and tuple(known["sums"]) == SUMS,
        "records": isinstance(known["records"], list) and all(map(numbers, known["records"])),
        "best": known["best"] is None or type(known["best"]) is float,
        "position": known["batch"] <= known["step"] and known["epoch"] <= known["step"],
    }
    if wrong := [name for name, is_right in right.items() if not is_right]:
        raise ValueError(f"what it says of {', '.join(wrong)} makes no sense")
    return known


# The state of a network, which is a tree of tensors -------------------------------------------------------------------


def form_of(tree: Any) -> Any:
    """What a tree is without its leaves, in terms of JSON."""
    if tree is None:
        return None
    if type(tree) in (tuple, list):
        return {type(tree).__name__: [form_of(part) for part in tree]}
    if type(tree) is dict and all(type(name) is str for name in tree):
        return {"dict": {name: form_of(part) for name, part in tree.items()}}
    if not is_array(bare(tree)):
        raise TypeError("state: a checkpoint within a sequence can hold tensors, and tuples, lists and dicts (with "
                        f"strings for keys) of them, got {described(tree)}")  # fmt: skip
    return "leaf"


def tree_of(form: Any, leaves: dict[str, np.ndarray], device: str) -> Any:
    """The tree of that form, with tensors of these leaves."""
    numbers = itertools.count()

    def built(form: Any) -> Any:
        if form is None:
            return None
        if form == "leaf":
            leaf = leaves[str(next(numbers))]
            if leaf.dtype.kind not in "biufc":
                raise ValueError(f"expected numbers in the state of the network, got {described(leaf)}")
            return Tensor(move(leaf, device))
        ((kind, parts),) = form.items()
        if kind == "dict":
            return {name: built(part) for name, part in parts.items()}
        return {"tuple": tuple, "list": list}[kind]([built(part) for part in parts])

    tree = built(form)
    if len(leaves) != next(numbers):
        raise ValueError("the state of the network in it has other parts than it says")
    return tree
