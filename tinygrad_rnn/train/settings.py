"""What a run is made with: checked before anything is done, and compared with a checkpoint's where a run is resumed.

What can be written down is compared: numbers and names as they are, an object by its kind and by what it was made
with, data by shapes and a checksum. Functions cannot be: the loss, metrics, callbacks and what gives batches itself are
taken on trust. What says only when a run ends or what is seen of it is not compared at all.
"""

from __future__ import annotations

import inspect
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..arrays import device_of, is_array
from ..debug import checksum
from ..errors import described, whole
from ..nn import Module
from ..optim import Optimizer, ReduceLROnPlateau, Schedule
from ..optim.optimizers import ON_NONFINITE, POSITIVE, within
from ..tensor import bare
from .data import Source, is_arrays

LOOKED_AT = {"cpu": 2**28, "cuda": 2**24}  # bytes of an array: of a longer one, as many in rows that are evenly spread
LONG = 100  # of lists and strings that are longer, and of arrays with more numbers, there is a checksum
PLAIN = {type(None), bool, int, float, str}

# What is checked before -----------------------------------------------------------------------------------------------


def check_parts(model: Any, optimizer: Any, schedule: Any, schedule_each: str) -> None:
    if not isinstance(model, Module):
        raise TypeError(f"model: expected a module, got {described(model)}")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer: expected one of the model's parameters, optim.Adam(model.parameters()), say, got "
                        f"{described(optimizer)}")  # fmt: skip
    own = set(model.parameters())
    if stranger := next(((i, p) for i, p in enumerate(optimizer.parameters) if p not in own), None):
        i, p = stranger
        if not p.requires_grad:
            raise ValueError(f"optimizer: parameter {i}, {described(p)}, does not require a gradient, so it is none of "
                             "the model's parameters: was it frozen after the optimiser was made? Make the optimiser "
                             "after it; or make it an nn.Parameter, which stays one while it is frozen")  # fmt: skip
        raise ValueError(f"optimizer: parameter {i} is none of the model's, and would be in no checkpoint: "
                         "was the model made anew? Whatever else is trained belongs into a module with it")  # fmt: skip
    within("schedule_each", schedule_each, ("epoch", "step").__contains__, "'epoch' or 'step'")
    if schedule is not None and getattr(schedule, "optimizer", None) is not optimizer:
        raise ValueError(f"schedule: expected one that was made for this optimiser, got {described(schedule)}")
    if isinstance(schedule, ReduceLROnPlateau) and schedule_each == "step":
        raise ValueError("schedule_each: ReduceLROnPlateau looks at what is monitored, which is known once an epoch")


def check_loss(loss: Any, window: int | None) -> None:
    if not callable(loss):
        raise TypeError(f"loss: expected a function loss(model, batch), got {described(loss)}")
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):  # some functions that are not Python's do not say
        return
    try:
        signature.bind(*("model", "batch", "state")[: 2 if window is None else 3])
    except TypeError:
        wanted = (
            "without window=, the loss is loss(model, batch), and returns the value"
            if window is None
            else "with window=, the loss is loss(model, batch, state), and returns (value, state)"
        )
        name = getattr(loss, "__name__", type(loss).__name__)
        raise TypeError(f"loss: {wanted}; got {name}{signature}") from None


def check_numbers(**numbers: Any) -> None:
    for name, value in numbers.items():
        if value is not None:
            whole(name, value, 1)
    if numbers["epochs"] is None and numbers["steps"] is None:
        raise ValueError("epochs, steps: expected at least one of them: when to end")


def check_rest(clip: Any, on_nonfinite: Any, callbacks: Any, generators: Any) -> None:
    if clip is not None:
        within("clip", clip, *POSITIVE)
    within("on_nonfinite", on_nonfinite, *ON_NONFINITE)
    if callable(callbacks) or not all(map(callable, callbacks)):
        raise TypeError(f"callbacks: expected a list of functions, got {described(callbacks)}")
    for rng in generators:
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"generators: expected those that the loss draws from, got {described(rng)}")


def checked_metrics(metrics: Any, validation: Any) -> Mapping[str, Callable]:
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping) or not all(isinstance(n, str) and callable(f) for n, f in metrics.items()):
        raise TypeError(f"metrics: expected functions metric(model, batch) by name, got {described(metrics)}")
    if validation is None or "loss" in metrics:
        raise ValueError("metrics: they are measured on the data for validation (validation=), where there is val_loss "
                         "in any case")  # fmt: skip
    return metrics


def checked_monitor(monitor: Any, mode: Any, validation: Any, metrics: Mapping) -> str:
    within("mode", mode, ("min", "max").__contains__, "'min' or 'max'")
    known = ["loss"] if validation is None else ["val_loss", "loss", *(f"val_{name}" for name in metrics)]
    return within("monitor", known[0] if monitor is None else monitor, known.__contains__, f"one of {known}")


# What is compared, in terms of JSON -----------------------------------------------------------------------------------


def settings_of(
    model: Module, optimizer: Optimizer, schedule: Any, data: Any, source: Source, validation: Any, **others: Any
) -> dict[str, Any]:
    """All that has to be the same where a run is resumed."""
    return {
        **settings_of_parts(model, optimizer, schedule),
        "data": contents(data),
        "validation": None if validation is None else contents(validation),
        **{name: written(value) for name, value in (source.identity | others).items()},
    }


def settings_of_parts(model: Module, optimizer: Optimizer, schedule: Any) -> dict[str, Any]:
    """Of these, schedules and callbacks may change some in a run."""
    return {
        "model": modules_of(model),
        "optimizer": hyperparameters(optimizer),
        "schedule": None if schedule is None else written(schedule),
    }


def modules_of(model: Module) -> dict[str, str]:
    """What each part of a model says of itself: its kind, its sizes, the rate of a dropout."""

    def said(module: Module) -> str:
        return re.sub(r" at 0x[0-9a-f]+", "", f"{type(module).__name__}({module.extra_repr()})")

    return {name: said(module) for name, module in model.named_modules() if name} | {"kind": said(model)}


def hyperparameters(optimizer: Optimizer) -> dict[str, Any]:
    """The settings of an optimiser: of its learning rates those that a schedule starts from, as it changes them."""
    kind, groups = type(optimizer).__name__, optimizer.param_groups
    settings = [
        {name: written(value) for name, value in group.items() if name not in ("params", "initial_lr")}
        | {"lr": written(group.get("initial_lr", group["lr"]))} for group in groups
    ]  # fmt: skip
    if len(settings) == 1:
        return {"kind": kind, **settings[0]}
    return {"kind": f"{kind} with {len(settings)} groups", "param_groups": settings}


def written(value: Any) -> Any:
    """A setting: numbers, strings, and short lists of them as they are; a schedule by its settings; all else by its
    kind, and arrays and what is long by a checksum."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim < 2 and value.size <= LONG):
        value = value.tolist()
    if isinstance(value, (list, tuple, str)) and len(value) > LONG:
        return f"a {type(value).__name__} of {len(value)}, {checksum_of(contents_of_all([value]))}"
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [written(part) for part in value]
    if isinstance(value, (Schedule, ReduceLROnPlateau)):
        return {"kind": type(value).__name__, **attributes(value, besides=("optimizer", *value.state_dict()))}
    return contents_of(value) if is_array(bare(value)) else type(value).__name__


def attributes(x: Any, besides: Iterable[str] = ()) -> dict[str, Any]:
    """How an object was made, as far as it says.

    Of the package's own, that is what its attributes are. Of anybody else's, those that are called as what its
    constructor takes: the others may count or measure, and differ from run to run.
    """
    known = {name: x for name, x in getattr(x, "__dict__", {}).items() if name not in besides and name[0] != "_"}
    if type(x).__module__.partition(".")[0] != __name__.partition(".")[0]:
        taken = parameters_of(type(x))
        known = {name: value for name, value in known.items() if name in taken}
    return {name: written(value) for name, value in known.items()}


def parameters_of(made_by: Callable) -> Iterable[str]:
    try:
        return inspect.signature(made_by).parameters
    except (TypeError, ValueError):  # it does not say
        return ()


def since(said: Any, task: Any) -> Any:
    """What is said of a task, with what is short in it as it is by now: a curriculum changes it; arrays take time."""
    if not isinstance(said, dict) or task is None:
        return said
    now = {name: getattr(task, name, None) for name in said if name != "kind"}

    def is_short(value: Any) -> bool:
        is_list = isinstance(value, (list, tuple, str))
        return len(value) <= LONG if is_list else isinstance(value, (int, float, np.generic))

    return said | {name: written(value) for name, value in now.items() if is_short(value)}


def contents(data: Any) -> dict[str, Any]:
    """What data are: arrays and lists of batches with a checksum, a task by its settings, all else by its kind."""
    if is_arrays(data):
        return {"kind": f"a tuple of {len(data)}", "arrays": [contents_of(array) for array in data]}
    if callable(getattr(data, "batch", None)):
        return {"kind": type(data).__name__, **attributes(data)}
    if type(data) not in (list, tuple):  # what reads its batches when it is asked for them is not read here
        return {"kind": type(data).__name__}
    return {"kind": f"a {type(data).__name__} of {len(data)}", "batches": checksum_of(contents_of_all(data))}


def contents_of_all(batches: Any) -> str:
    """What is in batches, leaf by leaf."""
    leaves = [*leaves_of(batches)]
    total = sum(getattr(bare(leaf), "nbytes", 0) for leaf in leaves)
    return str([leaf if isinstance(leaf, str) else contents_of(leaf, total) for leaf in leaves])


def leaves_of(batches: Any) -> Iterator:
    """The leaves; numbers and strings of one list all in one, as there may be millions."""
    if not isinstance(batches, (list, tuple, Mapping)):
        yield batches
        return
    parts = [*(batches.values() if isinstance(batches, Mapping) else batches)]
    if {*map(type, parts)} <= PLAIN:
        yield repr(parts)
        return
    for part in parts:
        yield from leaves_of(part)


def contents_of(leaf: Any, total: int = 0) -> str:
    """An array in a few words: it is looked at where it is; total: the bytes of all that are, if not of it alone."""
    array = bare(leaf)
    if not is_array(array) or isinstance(array, np.generic):
        return str(written(leaf))
    device = device_of(array).partition(":")[0]
    said = f"{array.dtype} {array.shape}" + ("" if device == "cpu" else " on a GPU")
    if array.dtype.hasobject:
        return said
    if array.ndim:
        array = array[:: math.ceil(max(total, array.nbytes, 1) / LOOKED_AT[device])]
    return f"{said}, checksum {checksum(array):08x}"


def checksum_of(text: str) -> str:
    return f"checksum {zlib.crc32(text.encode(errors='surrogatepass')):08x}"


# Comparing them -------------------------------------------------------------------------------------------------------


def differences(saved: Any, given: Any, name: str = "") -> dict[str, str]:
    """What differs between a checkpoint and the run that is to go on from there, by name: a line for each."""
    if isinstance(saved, dict) and isinstance(given, dict) and saved.get("kind") == given.get("kind"):
        pairs = {f"{name}.{part}".lstrip("."): (saved.get(part), given.get(part)) for part in {**saved, **given}}
    elif isinstance(saved, list) and isinstance(given, list) and len(saved) == len(given) and strings_or_more(saved):
        pairs = {f"{name}[{i}]": pair for i, pair in enumerate(zip(saved, given))}
    else:
        same = saved == given or repr(saved) == repr(given)  # NaN, too, is the same
        return {} if same else {name: line(name, saved, given)}
    return {deep: text for part, pair in pairs.items() for deep, text in differences(*pair, part).items()}


def strings_or_more(parts: list) -> bool:
    """Whether parts of a list are told apart: those of betas, or of milestones, belong together."""
    return any(isinstance(part, (str, list, dict)) for part in parts)


def line(name: str, saved: Any, given: Any) -> str:
    if saved is None and isinstance(given, dict):
        return f"{name}: this run has one, {shown(given)}, and the checkpoint has none"
    if given is None and isinstance(saved, dict):
        return f"{name}: the checkpoint has one, {shown(saved)}, and this run has none"
    return f"{name}: {shown(saved)} in the checkpoint, {shown(given)} given"


def shown(value: Any) -> str:
    text = str(value.get("kind") if isinstance(value, dict) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."
