"""The loop: draw a batch, compute the loss, walk back, step. Around it what a long run needs, each in its own place."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import trees
from ..bptt import carrier, checked_loss, detached
from ..errors import described
from ..nn import Module
from ..nn.recurrent import drawn_from
from ..optim import Optimizer, ReduceLROnPlateau, clip_grad_norm_
from ..tensor import Tensor
from .checkpoints import Checkpoints, Run
from .data import Source, is_arrays, source_of, time_of, window_of
from .evaluation import in_mode, measured, parts_of
from .history import History, Report, check_log
from .settings import check_loss, check_numbers, check_parts, check_rest, checked_metrics, checked_monitor, settings_of


@dataclass
class Moment:
    """What a callback is given at the end of each epoch.

    Parameters
    ----------
    model : Module
        What is trained.
    optimizer : Optimizer
        What trains it.
    history : History
        The records so far.
    record : dict of str to float
        That of this epoch.
    stop : bool, optional
        Set it to True, and the run ends here.

    Examples
    --------
    >>> def until_small(moment):
    ...     moment.stop = moment.record["loss"] < 0.01
    >>> moment = Moment(None, None, [], {"loss": 0.001})
    >>> until_small(moment)
    >>> moment.stop
    True
    """

    model: Module
    optimizer: Optimizer
    history: History
    record: dict[str, float]
    stop: bool = False


def fit(
    model: Module, loss: Callable, data: Any, *, optimizer: Optimizer, epochs: int | None = None,
    steps: int | None = None, batch_size: int | None = None, batch_axis: Any = None, shuffle: bool = True,
    steps_per_epoch: int | None = None, rng: Any = None, window: int | None = None, clip: float | None = None,
    on_nonfinite: str = "raise", schedule: Any = None, schedule_each: str = "epoch", validation: Any = None,
    metrics: Mapping[str, Callable] | None = None, monitor: str | None = None, mode: str = "min",
    patience: int | None = None, restore_best: bool = False, callbacks: Sequence[Callable] = (),
    progress: bool = True, log: str | os.PathLike | None = None, checkpoint: str | os.PathLike | None = None,
    every: int | None = None, keep: int = 2, resume: bool = False, generators: Sequence[np.random.Generator] = (),
) -> History:  # fmt: skip
    """Train a model: ``loss(model, batch)``, backward, a step of the optimiser, over and over.

    Ctrl-C (in the main thread, where nobody else handles it) finishes the step, writes a checkpoint, and returns
    normally, ``history.interrupted`` being True; the second one raises KeyboardInterrupt at once.

    Parameters
    ----------
    model : Module
        The module that is trained. While it is, it is in the mode ``train()``; then, as it was before.
    loss : callable
        ``loss(model, batch)``, a tensor, a single number. What a batch is, the data says; how the model is called, and
        what of its results counts, is said here. With window: see there.
    data : tuple, task, callable or list
        One of

        - a tuple of arrays, ``(X, Y)``, (or a named tuple of them, such as a task's batch): cut into batches that are
          such tuples, along batch_axis, in an order that is drawn anew for each epoch (shuffle); a part that is None
          stays None;
        - a task, of which batch_size sequences are drawn for each step: anything with ``batch(size, rng)``;
        - a function ``batches(rng)``, called once an epoch with a generator, whose result is iterated over;
        - a list, or whatever else can be iterated over again and again, of batches.
    optimizer : Optimizer
        Of the model's parameters, or of some of them.
    epochs, steps : int, optional
        When to end: after so many epochs, or updates in all, whichever comes first. One of them is needed.
    batch_size : int, optional
        How many samples make a batch, the last one of an epoch perhaps being smaller. None: all of the arrays at once.
    batch_axis : int or tuple of int, optional
        The axis of the arrays that is cut into batches: 0, samples first; 1, sequences time first (arrays with one axis
        are cut along that); or a tuple, an axis for each. There is no default for arrays of more than two axes, or of
        integers, as it cannot be seen whether samples or steps come first.
    shuffle : bool, optional
        Whether the order of the samples is drawn anew for each epoch.
    steps_per_epoch : int, optional
        An epoch has so many batches; by default all there are, and of a task 100.
    rng : int or Generator, optional
        Of the order of the data, of tasks, and of ``batches``.
    window : int, optional
        Truncated back-propagation through time, for long sequences: a batch is cut into windows of so many steps, each
        one an update, and each goes on from the state after the one before it, which is a constant. Then it is
        ``loss(model, batch, state)``, which returns ``(value, state)``, and starts from None. All arrays of a batch are
        time first, except for one that is called ``lengths`` in a named tuple. A backward direction begins anew in each
        window: what is carried on is ``model.carried(state)``, which layers have, and a module of your own around
        layers of both directions needs; ``carried = None`` in its class, where the loss returns nothing of theirs. For
        windows that overlap, see :func:`~tinygrad_rnn.bptt.truncated`, and write a loop of your own.
    clip : float, optional
        The norm that the gradient is scaled down to, if it is larger: :func:`~tinygrad_rnn.optim.clip_grad_norm_`.
    on_nonfinite : {"raise", "skip", "ignore"}, optional
        What to do with a gradient that has a NaN or an infinity in it. Steps that are skipped are counted, and their
        loss is left out of the mean.
    schedule : Schedule or ReduceLROnPlateau, optional
        Of the learning rate, made for this optimiser. :class:`~tinygrad_rnn.optim.ReduceLROnPlateau` looks at what is
        monitored.
    schedule_each : {"epoch", "step"}, optional
        When the schedule makes a step.
    validation : tuple or list, optional
        Arrays (cut as those in data are, or else all at once), or a list of batches: ``val_loss`` is the mean of the
        loss over them, after each epoch, in the mode ``eval()``, without a tape.
    metrics : dict of str to callable, optional
        Functions ``metric(model, batch)``, numbers, by name: of the validation data, as ``val_name``.
    monitor : str, optional
        A name in the records; by default ``"val_loss"`` if there is validation, or else ``"loss"``.
    mode : {"min", "max"}, optional
        Whether lower or higher is better.
    patience : int, optional
        End when what is monitored has not got better for so many epochs.
    restore_best : bool, optional
        Whether the model has at the end the weights of the epoch that was the best by what is monitored.
    callbacks : sequence of callable, optional
        Functions that are given a :class:`~tinygrad_rnn.train.Moment` after each epoch.
    progress : bool, optional
        Whether to show it, on stderr: a bar if tqdm is installed, or else a line an epoch.
    log : str or Path, optional
        A file, ``.csv`` or ``.jsonl``, that gets a line an epoch. It must not be there yet, except with resume.
    checkpoint : str or Path, optional
        A folder, of this run alone. At the end, on Ctrl-C, and every so many updates a file in it gets all that the run
        is made of.
    every : int, optional
        How many updates there are between two checkpoints; by default there is one at the end of each epoch.
    keep : int, optional
        How many checkpoints are kept, the last ones.
    resume : bool, optional
        Go on from the newest checkpoint, if there is one (so a program can always say ``resume=True``), as if it had
        never stopped: the weights, and the records but for ``"seconds"``, come out the same, bit for bit, in the same
        environment. Model, optimiser, schedule, data and settings are to be made as they were, or are those that the
        run has left in the same process; what differs is an error. But functions, and what modules and tasks of your
        own keep to themselves, are taken on trust. When it ends (epochs, steps, patience) and what is seen of it
        (callbacks, metrics, progress, log, every, keep) may be other than before; validation, monitor and mode, too,
        where nothing depends on them: neither patience nor restore_best nor ReduceLROnPlateau. The seed of the data is
        the checkpoint's: rng has to be the same, or None. What gives batches itself is asked for those of the epoch
        again, up to where it was.
    generators : sequence of Generator, optional
        What else is drawn from in training, by the loss, say. Those of the model are known.

    Returns
    -------
    History
        For each epoch ``epoch``, ``step`` (updates so far), ``loss`` (the mean over the steps, as they were made),
        ``norm`` (the mean of the gradient's, before clipping; not with ``on_nonfinite="ignore"`` alone), ``skipped``,
        ``lr`` (of the first group, in the last step), what was measured, and ``seconds``. An epoch that steps cuts
        short has a record, too.

    Raises
    ------
    TypeError
        An argument is of another kind; the loss does not take these arguments, or returned no tensor; or, with window,
        a module with a backward direction has no ``carried``.
    ValueError
        An argument is not what it has to be; or the loss returned more than a single number.
    FileExistsError
        The log, or a checkpoint, is there already, and it is not to be resumed.
    CheckpointError
        The checkpoint is damaged, or of a run with other settings: the error lists those that differ. Nothing has
        changed then.
    FloatingPointError
        The gradient is not finite, and on_nonfinite is ``"raise"``.

    Examples
    --------
    >>> from tinygrad_rnn import nn, optim
    >>> X = np.random.default_rng(0).standard_normal((100, 3))
    >>> model = nn.Linear(3, 1, rng=0, dtype=np.float64)
    >>> def loss(model, batch):
    ...     x, y = batch
    ...     return nn.mse(model(x), y)
    >>> history = fit(model, loss, (X, X.sum(axis=1, keepdims=True)), batch_size=10, epochs=20, rng=0, progress=False,
    ...               optimizer=optim.Adam(model.parameters(), lr=0.05))
    >>> model.weight.data.round(2), len(history), history[-1]["step"]
    (array([[1., 1., 1.]]), 20, 200)
    """
    # All is checked before anything is done
    check_parts(model, optimizer, schedule, schedule_each)
    check_numbers(epochs=epochs, steps=steps, window=window, every=every, keep=keep, patience=patience)
    check_loss(loss, window)
    carried = None if window is None else carrier(model)
    check_rest(clip, on_nonfinite, callbacks, generators)
    metrics = checked_metrics(metrics, validation)
    monitor = checked_monitor(monitor, mode, validation, metrics)
    if checkpoint is None and (resume or every is not None):
        raise ValueError("resume, every: expected a folder for checkpoints: checkpoint=")
    seed = np.random.default_rng(rng).integers(2**32, size=4).tolist()
    source = source_of(data, batch_size, batch_axis, shuffle, steps_per_epoch, seed)
    cut = (batch_size, batch_axis) if is_arrays(data) else (None, None)
    held_out = None if validation is None else parts_of("validation", validation, *cut)
    if log is not None:
        check_log(log, resume)
    saver = None
    if checkpoint is not None:
        settings = settings_of(
            model, optimizer, schedule, data, source, validation, schedule_each=schedule_each, window=window, clip=clip,
            on_nonfinite=on_nonfinite, monitor=monitor, mode=mode, restore_best=restore_best,
        )  # fmt: skip
        parts = {"model": model, "optimizer": optimizer} | ({} if schedule is None else {"schedule": schedule})
        drawn = [*dict.fromkeys([*drawn_from(model), *generators])]
        watched = restore_best or patience is not None or isinstance(schedule, ReduceLROnPlateau)
        saver = Checkpoints(Path(checkpoint), keep, parts, drawn, settings, getattr(source, "task", None), watched)

    # Where it begins
    run = Run(seed)
    if saver and (files := saver.files()):
        if not resume:
            raise FileExistsError(f"checkpoint: {checkpoint} has checkpoints already: resume=True goes on from there; "
                                  "another run needs another folder")  # fmt: skip
        run = saver.read(files[-1], None if rng is None else seed)
    source.seed = run.seed
    nothing = run.measured([] if held_out is None else [f"val_{name}" for name in ("loss", *metrics)])
    history, told_to_stop = History(run.records), False

    def ending() -> str:
        """Why it is to end now, if it is."""
        reasons = {
            "interrupt": interrupts, "callback": told_to_stop, "epochs": epochs is not None and run.epoch >= epochs,
            "steps": steps is not None and run.step >= steps, "patience": patience is not None and run.bad >= patience,
        }  # fmt: skip
        return next((name for name, is_so in reasons.items() if is_so), "")

    def summed_up() -> dict[str, float]:
        """The record of the epoch, so far."""
        value = (lambda model, batch: loss(model, batch, None)[0]) if window else loss
        with noting(f"in the validation, after epoch {run.epoch + 1}"):
            found = {} if held_out is None else measured(model, value, held_out(), metrics)
        record = run.record(nothing | {f"val_{name}": number for name, number in found.items()}, seconds=lap())
        history.append(record)
        report.epoch(record)
        return record

    with (
        in_mode(model, training=True), interrupts_counted() as interrupts, Report(progress, log) as report,
        saver.leaving() if saver else nullcontext(),
    ):  # fmt: skip
        report.begin(history, run.step, total(source, epochs, steps, window))
        lap = stopwatch()
        while not (ended := ending()):
            model.train()  # a callback may have looked at it in the other mode
            for batch, after in pieces(source, run, window):
                if ended := ending():
                    break
                with noting(f"in step {run.step + 1}, in epoch {run.epoch + 1}"):
                    value, run.state = computed(loss, model, batch, run.state, window, carried)
                    norm = updated(model, optimizer, value, clip, on_nonfinite)
                run.add(
                    after, value.item(), norm, float(optimizer.param_groups[0]["lr"]), on_nonfinite == "skip", lap()
                )
                if schedule is not None and schedule_each == "step":
                    schedule.step()
                report.step(run.epoch + 1, run.loss)
                if saver and every and run.step % every == 0:
                    saver.write(run)
            else:  # no batch is left of this epoch
                if not run.batch:
                    raise ValueError(f"data: epoch {run.epoch + 1} has no batches")
                record = summed_up()
                run.records.append(record)
                run.compare(record[monitor], mode, model.state_dict() if restore_best else None)
                if schedule is not None and schedule_each == "epoch":
                    schedule.step(*[record[monitor]] if isinstance(schedule, ReduceLROnPlateau) else ())
                moment = Moment(model, optimizer, history, record)
                for callback in callbacks:
                    callback(moment)
                told_to_stop = moment.stop
                run.next_epoch()
                if saver and not every:
                    saver.write(run)
        history.ended = ended
        if saver:
            saver.write(run)
        if ended == "steps" and run.batch + run.begin:  # an epoch cut short is none in the checkpoint: it may go on
            summed_up()
    if restore_best and run.weights is not None:
        model.load_state_dict(run.weights)
    model.zero_grad()
    return history


# A step ---------------------------------------------------------------------------------------------------------------


def pieces(source: Source, run: Run, window: int | None) -> Iterator[tuple[Any, tuple[int, int]]]:
    """What is left of an epoch: batches, or windows of them; each with the position (batch, begin) after it."""
    first = run.begin
    for number, batch in enumerate(source.epoch(run.epoch, run.batch), run.batch + 1):
        if window is None:
            yield batch, (number, 0)
            continue
        steps = time_of(batch)
        for begin in range(first, steps, window):
            end = min(begin + window, steps)
            yield window_of(batch, begin, end), (number, 0) if end == steps else (number - 1, end)
        first = 0


def computed(
    loss: Callable, model: Module, batch: Any, state: Any, window: int | None, carried: Callable | None
) -> tuple[Tensor, Any]:
    """The loss of a batch, or of a window of it, and the state after that, a constant."""
    if window is None:
        value = loss(model, batch)
        if isinstance(value, tuple):
            raise TypeError(f"loss: without window=, expected the value alone, got {described(value)}")
        return checked_loss(value), None
    if carried is not None and state is not None:  # here, so that first states that are learned get their gradients
        state = carried(state)
    result = loss(model, batch, state)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError("loss: with window=, expected loss(model, batch, state) to return (value, state), got "
                        f"{described(result)}")  # fmt: skip
    value, state = result
    return checked_loss(value), trees.map(detached, state)


def updated(model: Module, optimizer: Optimizer, value: Tensor, clip: float | None, on_nonfinite: str) -> float | None:
    """A backward pass, and a step of the optimiser: the norm of the gradient, if anybody looks at it."""
    model.zero_grad()
    value.backward()
    norm = None
    if clip is not None or on_nonfinite != "ignore":
        try:
            norm = float(clip_grad_norm_(optimizer.parameters, math.inf if clip is None else clip, on_nonfinite))
        except FloatingPointError as error:
            if math.isfinite(loss := value.item()):
                raise
            raise FloatingPointError(f"the loss is {loss}, and {error}") from None
    optimizer.step()
    return norm


# What is around it ----------------------------------------------------------------------------------------------------


@contextmanager
def interrupts_counted() -> Iterator[list]:
    """In a block, the first Ctrl-C only makes the list not empty; the second is a KeyboardInterrupt, as it was before.

    Nothing changes in threads that get none, and where somebody else handles it.
    """
    interrupts: list = []
    if threading.current_thread() is not threading.main_thread() or (
        signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield interrupts
        return

    def handle(*signalled: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupts.append(signalled)
        print("\nfit: Ctrl-C: this step is finished; again, and it is not", file=sys.stderr)

    signal.signal(signal.SIGINT, handle)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def noting(place: str) -> Iterator[None]:
    """Errors in a block say where they were."""
    try:
        yield
    except Exception as error:
        error.add_note(place)
        raise


def stopwatch() -> Callable[[], float]:
    """A function that says how many seconds have passed since it was last called."""
    last = time.perf_counter()

    def lap() -> float:
        nonlocal last
        last, before = time.perf_counter(), last
        return last - before

    return lap


def total(source: Source, epochs: int | None, steps: int | None, window: int | None) -> int | None:
    """How many steps there will be in all, if that is known."""
    known = [steps] if steps is not None else []
    if epochs is not None and source.size is not None and window is None:
        known.append(epochs * source.size)
    return min(known, default=None)
