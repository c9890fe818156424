"""The training loop: it does what the loop that it stands for does; what is resumed is as if it had never stopped."""

from __future__ import annotations

import binascii
import csv
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim
from tinygrad_rnn.train import CheckpointError, History, evaluate, fit
from tinygrad_rnn.train.settings import LOOKED_AT, contents, differences, written


class Net(nn.Module):
    """A network with all that can be random in training: between layers, at each step, and in masks in the state."""

    def __init__(self, rng=0, dtype=np.float32):
        rng = np.random.default_rng(rng)
        cell = nn.VariationalDropout(nn.Zoneout(nn.LSTMCell(2, 4, rng=rng, dtype=dtype), 0.2, rng=rng), 0.2, rng=7)
        self.layers = nn.Recurrent([cell, nn.GRUCell(4, 3, rng=rng, dtype=dtype)], dropout=0.3, rng=rng)
        self.readout = nn.Linear(3, 1, rng=rng, dtype=dtype)

    def forward(self, x, state=None):
        ys, state = self.layers(x, state)
        return self.readout(ys), state


def loss_of(model, batch):
    x, y = batch
    return nn.mse(model(x)[0], y)


def loss_by_windows(model, batch, state):
    x, y = batch
    ys, state = model(x, state)
    return nn.mse(ys, y), state


class Bidirectional(nn.Module):
    """It does not say what is carried from window to window."""

    def __init__(self):
        self.layers, self.readout = nn.LSTM(2, 3, bidirectional=True, rng=0), nn.Linear(6, 1, rng=1)

    def forward(self, x, state=None, **options):
        ys, *states = self.layers(x, state, **options)
        return self.readout(ys), *states


class Carrying(Bidirectional):
    def carried(self, *state):
        return self.layers.carried(*state)


def sequences(time=6, samples=10, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((time, samples, 2)).astype(np.float32)
    return x, np.cumsum(x, axis=0).sum(axis=-1, keepdims=True)


class Sums:
    """A task, by the protocol that tasks have."""

    def batch(self, size, rng=None):
        return sequences(5, size, rng)


def batches(rng):
    for _ in range(4):
        yield sequences(5, 3, rng)


SETTINGS = {  # each with an epoch of 4 or 5 steps
    "arrays": dict(data=sequences(), loss=loss_of, batch_size=3, batch_axis=1),
    "windows": dict(data=sequences(10, 4), loss=loss_by_windows, batch_size=2, batch_axis=1, window=4),
    "task": dict(data=Sums(), loss=loss_of, batch_size=3, steps_per_epoch=4),
    "function": dict(data=batches, loss=loss_of),
    "list": dict(data=[*batches(np.random.default_rng(3))], loss=loss_of),
}


def started(kind, loss=None, **options):
    """A run from the beginning, as a program would make it; and all that it is made of, in the end."""
    model = Net()
    optimizer = optim.Adam([{"params": model.layers.parameters()}, {"params": model.readout.parameters(), "lr": 0.1}])
    settings = dict(
        optimizer=optimizer, schedule=optim.CosineAnnealingLR(optimizer, 20), schedule_each="step", rng=5, clip=1.0,
        epochs=4, validation=[sequences(seed=2)], progress=False, restore_best=True,
    )  # fmt: skip
    settings |= SETTINGS[kind] | options
    loss = loss or settings["loss"]
    del settings["loss"]
    history = fit(model, loss, settings.pop("data"), **settings)
    records = [{name: x for name, x in record.items() if name != "seconds"} for record in history]
    generators = [rng.bit_generator.state for rng in nn.recurrent.drawn_from(model)]
    state = model.state_dict(), optimizer.state_dict(), settings["schedule"].state_dict()
    return history, bits([*state, records, generators])


def bits(tree):
    """What can be compared to the last bit."""
    if isinstance(tree, dict):
        return {name: bits(part) for name, part in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [bits(part) for part in tree]
    array = np.asarray(tree)
    return tree if array.dtype == object else (array.dtype.str, array.shape, array.tobytes())


def stopping(loss, after, stop):
    """The loss, which calls stop() in the middle of a step, after so many others."""
    calls = itertools.count()

    def inner(*arguments):
        result = loss(*arguments)
        if arguments[0].training and next(calls) == after:
            stop()
        return result

    return inner


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


class Dead(Exception):
    pass


def die():
    raise Dead


@pytest.mark.parametrize("kind", SETTINGS)
def test_what_is_interrupted_and_resumed_is_as_if_it_had_never_stopped(kind, tmp_path):
    whole, expected = started(kind)
    assert len(whole) == 4 and not whole.interrupted and whole.ended == "epochs"
    steps, rng = whole[-1]["step"], np.random.default_rng(SETTINGS[kind].get("window", 0))
    assert steps in (16, 24)
    for i, after in enumerate(sorted({0, steps - 1, *rng.integers(0, steps, 4).tolist()})):
        options = dict(checkpoint=tmp_path / str(i), resume=True)
        loss = stopping(SETTINGS[kind]["loss"], after, press_ctrl_c)
        history, _ = started(kind, loss, **options)
        assert history.interrupted and len(history) == (after + 1) // (steps // 4)
        more, found = started(kind, **options)
        assert found == expected and not more.interrupted


@pytest.mark.parametrize("kind", SETTINGS)
def test_what_died_goes_on_from_its_last_checkpoint_as_if_it_had_never_stopped(kind, tmp_path):
    _, expected = started(kind)
    options = dict(checkpoint=tmp_path, resume=True, every=3)
    for after in (1, 4, 4, 9):  # after some steps of each start
        with pytest.raises(Dead) as caught:
            started(kind, stopping(SETTINGS[kind]["loss"], after, die), **options)
    assert "in step 16, in epoch" in caught.value.__notes__[0]  # 0, 3, 6, and 9 more
    assert started(kind, **options)[1] == expected


@pytest.mark.parametrize("backend", ["numpy", pytest.param("numba", marks=pytest.mark.slow)])
def test_another_process_goes_on_with_the_same_bits(backend, tmp_path):
    """By scans that are compiled; Numba's kernels, by the first process alone. Strings have other hashes there."""
    if backend == "numba":
        pytest.importorskip("numba")
    code = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_train as t
        x = t.sequences(40, 6)
        t.SETTINGS["long"] = dict(data=x, loss=t.loss_of, batch_size=2, batch_axis=1)
        loss = t.stopping(t.loss_of, 4, t.press_ctrl_c) if sys.argv[1] == "stop" else None
        folder = dict(checkpoint=sys.argv[2], resume=True)
        with t.tg.compiled({backend!r}):
            print(repr(t.started("long", loss, **folder if sys.argv[1] != "whole" else {{}})[1]))
    """
    found = {}
    for i, what in enumerate(("whole", "stop", "go on")):
        command = [sys.executable, "-c", textwrap.dedent(code), what, str(tmp_path / "folder")]
        environment = {**os.environ, "PYTHONHASHSEED": str(i), "TINYGRAD_RNN_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
        assert done.returncode == 0, done.stderr
        found[what] = done.stdout
    assert found["go on"] == found["whole"] != found["stop"]


def test_a_run_that_has_ended_can_be_asked_for_more(tmp_path):
    _, expected = started("windows", epochs=None, steps=17)
    for steps in (5, 5, 11, 17):
        before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        history, found = started("windows", epochs=None, steps=steps, checkpoint=tmp_path, resume=True)
        assert history.ended == "steps" and history[-1]["step"] == steps
        after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        assert (before == after) == (f"step-{steps:012}.npz" in before)  # nothing to do, nothing to write
    assert found == expected


def test_without_a_seed_the_order_of_the_data_is_remembered(tmp_path):
    x, seen = np.arange(20.0)[:, None], []

    def loss(model, batch):
        seen.extend(batch[0][:, 0])
        return (model.weight * batch[0][0, 0]).sum()

    for stop in (3, 1, None):
        options = dict(batch_size=2, epochs=1, checkpoint=tmp_path, resume=True)
        fitted((x, x), loss if stop is None else stopping(loss, stop, press_ctrl_c), **options)
    assert sorted(seen) == x[:, 0].tolist() != seen


def test_generators_of_the_loss_are_part_of_a_run(tmp_path):
    def run(stop, **options):
        rng = np.random.default_rng(3)

        def noisy(model, batch):
            x, y = batch
            return loss_of(model, (x + rng.standard_normal(x.shape, np.float32), y))

        loss = stopping(noisy, 5, stop) if stop else noisy
        return started("arrays", loss, generators=[rng], validation=None, **options)[1]

    run(press_ctrl_c, checkpoint=tmp_path)
    assert run(None, checkpoint=tmp_path, resume=True) == run(None)


def test_any_generator_of_numpys_can_be_in_a_model(tmp_path):
    for kind in (np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM):
        found = []
        for stop in (None, press_ctrl_c, None):
            model = nn.Sequential(nn.Dropout(0.5, rng=np.random.Generator(kind(1))), nn.Linear(2, 1, rng=0))
            loss = stopping(lambda model, batch: nn.mse(*batched(model, batch)), 2, stop) if stop else simple
            folder = dict(checkpoint=tmp_path / kind.__name__, resume=True) if found else {}
            settings = dict(optimizer=optim.SGD(model.parameters(), lr=0.1), epochs=2, progress=False)
            fit(model, loss, [lines()] * 3, **settings, **folder)
            found.append(bits(model.state_dict()))
        assert found[0] == found[2] != found[1]


# The loop itself ------------------------------------------------------------------------------------------------------


def lines(samples=12):
    x = np.random.default_rng(4).standard_normal((samples, 2)).astype(np.float32)
    return x, x.sum(axis=1, keepdims=True)


def batched(model, batch):
    x, y = batch
    return model(x), y


def simple(model, batch):
    return nn.mse(*batched(model, batch))


def linear(lr=0.1, make=optim.SGD, **settings):
    model = nn.Linear(2, 1, rng=0)
    return model, make(model.parameters(), lr=lr, **settings)


def fitted(data=None, loss=simple, epochs=3, **settings):
    model, optimizer = linear()
    options = dict(optimizer=optimizer, epochs=epochs, progress=False)
    return model, fit(model, loss, lines() if data is None else data, **options | settings)


def test_it_is_the_loop_that_one_writes():
    x, y = lines()
    model, optimizer = linear(make=optim.Adam)
    schedule = optim.StepLR(optimizer, 2)
    losses, norms, rates = [], [], []
    for _ in range(4):
        for i in range(0, 12, 5):
            loss = nn.mse(model(x[i : i + 5]), y[i : i + 5])
            model.zero_grad()
            loss.backward()
            norms.append(float(optim.clip_grad_norm_(model.parameters(), 0.5)))
            optimizer.step()
            losses.append(loss.item())
        rates.append(optimizer.lr)
        schedule.step()
    same, optimizer = linear(make=optim.Adam)
    options = dict(batch_size=5, shuffle=False, clip=0.5, schedule=optim.StepLR(optimizer, 2), progress=False)
    history = fit(same, simple, (x, y), optimizer=optimizer, epochs=4, **options)
    assert bits(same.state_dict()) == bits(model.state_dict())
    np.testing.assert_allclose(history.column("loss"), np.reshape(losses, (4, 3)).mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(history.column("norm"), np.reshape(norms, (4, 3)).mean(axis=1), rtol=1e-12)
    assert history.column("lr") == rates and history.column("step") == [3, 6, 9, 12]
    assert all(p.grad is None for p in same.parameters())


def test_windows_are_those_of_truncated_backpropagation():
    x, y = sequences(12, 3)
    found = []
    for by_hand in (True, False):
        cell = nn.LSTMCell(2, 1, rng=0)
        optimizer = optim.SGD(cell.parameters(), lr=0.1)

        def loss(model, batch, state):
            ys, state = tg.scan(model, batch[0], state)
            return nn.mse(ys, batch[1]), state

        if by_hand:
            for _ in range(2):
                for _ in tg.bptt.truncated(cell, x, lambda ys, steps: nn.mse(ys, y[steps]), k1=4):
                    optimizer.step()
                    optimizer.zero_grad()
        else:
            history = fit(cell, loss, (x, y), optimizer=optimizer, epochs=2, window=4, progress=False)
        found.append(bits(cell.state_dict()))
    assert found[0] == found[1] and history.column("step") == [3, 6]


BIDIRECTIONAL = {
    "a network": lambda: nn.LSTM(2, 1, bidirectional=True, rng=0),
    "layers": lambda: nn.Recurrent([nn.GRUCell(2, 1, rng=0)], bidirectional=[nn.GRUCell(2, 1, rng=1)]),
    "first states that are learned": lambda: nn.GRU(2, 1, 2, bidirectional=True, learned_state=True, rng=0),
    "one's own": Carrying,
}


@pytest.mark.parametrize("make", BIDIRECTIONAL.values(), ids=BIDIRECTIONAL)
def test_a_backward_direction_begins_anew_in_each_window(make, tmp_path):
    """As those of truncated do; also if it is stopped between two windows, and resumed."""
    x, y = sequences(12, 3)

    def parts():
        model = make()
        return model, optim.SGD(model.parameters(), lr=0.1, momentum=0.5)

    def loss(model, batch, state):
        ys, state = model(batch[0], state)
        return nn.mse(ys.sum(axis=-1, keepdims=True), batch[1]), state

    def run(epochs=3, **options):
        model, optimizer = parts()
        history = fit(model, loss, (x, y), optimizer=optimizer, epochs=epochs, window=4, progress=False, **options)
        return bits(model.state_dict()), history

    model, optimizer = parts()
    losses = []
    for _ in range(3):
        for _, value, _ in tg.bptt.truncated(
            model, x, lambda ys, steps: nn.mse(ys.sum(axis=-1, keepdims=True), y[steps]), k1=4
        ):
            losses.append(value.item())
            optimizer.step()
            optimizer.zero_grad()
    weights, history = run()
    assert weights == bits(model.state_dict())
    np.testing.assert_allclose(history.column("loss"), np.reshape(losses, (3, 3)).mean(axis=1), rtol=1e-12)
    for steps in (1, 5):
        run(steps=steps, checkpoint=tmp_path, resume=True)
    assert run(checkpoint=tmp_path, resume=True)[0] == weights


def test_a_module_that_does_not_say_what_is_carried():
    model = Bidirectional()
    options = dict(optimizer=optim.SGD(model.parameters(), lr=0.1), epochs=1, progress=False)
    with pytest.raises(
        TypeError, match=r"^Bidirectional: it has a backward direction, which begins anew in each window"
    ):
        fit(model, lambda *_: die(), sequences(), window=2, **options)
    fit(model, loss_of, sequences(), **options)


def test_a_module_whose_state_has_nothing_of_a_backward_direction():
    class Reader(Bidirectional):
        carried = None

        def __init__(self):
            super().__init__()
            self.forth = nn.GRU(2, 3, rng=2)

    seen, model = [], Reader()

    def loss(model, batch, state):
        seen.append(state)
        ys, state = model.forth(batch[0], state)
        return (ys * ys).sum() + (model(batch[0])[0] ** 2).sum(), state

    fit(model, loss, sequences(), window=2, optimizer=optim.SGD(model.parameters(), lr=0.0), epochs=1, progress=False)
    _, expected = model.forth(sequences()[0][:4])
    assert seen[0] is None
    np.testing.assert_allclose(seen[2].data, expected.data, rtol=1e-6)


def test_a_state_in_a_nest_of_ones_own():
    model = nn.GRU(2, 1, bidirectional=True, rng=0)

    def loss(model, batch, state):
        ys, state = model(batch[0], state)
        return (ys * ys).sum(), {"h": state}

    message = r"GRU\.carried: h0: expected what the network returned, \(2, \.\.\., 1\), got "
    with pytest.raises(tg.StateError, match=message):
        fit(model, loss, sequences(), window=2, optimizer=optim.SGD(model.parameters()), epochs=1, progress=False)


def test_a_plain_tensor_that_was_frozen_after_the_optimizer_was_made():
    model = nn.Linear(2, 1, rng=0)
    model.scale = tg.tensor(np.ones(1, np.float32), requires_grad=True)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model.scale.requires_grad = False
    with pytest.raises(ValueError, match=r"optimizer: parameter 2, float32 \(1,\), does not require a gradient"):
        fit(model, simple, lines(), optimizer=optimizer, epochs=1, progress=False)
    fit(model, simple, lines(), optimizer=optim.SGD(model.parameters()), epochs=1, progress=False)


def test_lengths_are_cut_with_the_windows():
    x, y = sequences(7, 3)
    lengths, seen = np.array([7, 2, 4]), []
    Batch = namedtuple("Batch", "x y lengths mask")

    def loss(model, batch, state):
        assert isinstance(batch, Batch) and batch.mask is None
        seen.append((len(batch.x), batch.lengths.tolist()))
        ys, state = model(batch.x, state, lengths=batch.lengths)
        return nn.mse(ys, batch.y, lengths=batch.lengths), state

    model = nn.RNN(2, 1, rng=0)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    fit(model, loss, Batch(x, y, lengths, None), optimizer=optimizer, epochs=1, window=3, progress=False)
    assert seen == [(3, [3, 2, 3]), (3, [3, 0, 1]), (1, [1, 0, 0])]


def test_each_sample_comes_once_an_epoch_in_an_order_that_the_seed_says():
    x = np.arange(10.0)[:, None]
    orders = []
    for rng in (0, 0, 1, np.random.default_rng(0)):
        seen = []

        def loss(model, batch, seen=seen):
            assert batch[0] is not x and np.array_equal(batch[0], batch[1])
            seen.append(batch[0][:, 0])
            return (model.weight * batch[0][0, 0]).sum()

        fitted((x, x), loss, batch_size=4, rng=rng)
        assert [len(part) for part in seen] == [4, 4, 2] * 3
        epochs = np.concatenate(seen).reshape(3, 10)
        assert (np.sort(epochs) == np.arange(10)).all() and len({tuple(epoch) for epoch in epochs}) == 3
        orders.append(epochs.tolist())
    assert orders[0] == orders[1] == orders[3] != orders[2]


def test_axes_of_batches():
    x, y, lengths = np.zeros((5, 4, 2), np.float32), np.zeros((4, 3)), np.arange(4)
    for axis, data, shapes in (
        (1, (x, lengths), [(5, 3, 2), (3,)]), ((1, 0), (x, y), [(5, 3, 2), (3, 3)]),
        (0, (x, None), [(3, 4, 2), None]), ((1, 0, 0), (x, y, lengths), [(5, 3, 2), (3, 3), (3,)]),
    ):  # fmt: skip
        seen = []

        def loss(model, batch, seen=seen):
            seen.append([None if part is None else part.shape for part in batch])
            return model.weight.sum()

        fitted(data, loss, batch_size=3, batch_axis=axis, epochs=1)
        assert seen[0] == shapes


def test_modes_are_as_they_were_and_dropout_is_only_in_training():
    model = nn.Sequential(nn.Dropout(0.5, rng=0), nn.Linear(2, 1, rng=0))
    model[1].eval()
    modes = []

    def loss(model, batch):
        modes.append([module.training for module in model.modules()])
        return simple(model, batch)

    optimizer = optim.SGD(model.parameters(), lr=0.1)
    looking = [lambda moment: moment.model.eval()]
    fit(model, loss, lines(), optimizer=optimizer, epochs=2, validation=lines(), callbacks=looking, progress=False)
    assert modes == [[True] * 3, [False] * 3] * 2
    assert [module.training for module in model.modules()] == [True, True, False]
    with pytest.raises(Dead):
        fit(model, stopping(loss, 0, die), lines(), optimizer=optimizer, epochs=1, progress=False)
    assert [module.training for module in model.modules()] == [True, True, False]


def test_evaluation_is_the_mean_over_all_samples():
    model, (x, y) = linear()[0], lines()
    expected = float(np.mean((x @ model.weight.data.T + model.bias.data - y) ** 2))
    metrics = {"largest": lambda model, batch: abs(batched(model, batch)[0]).max()}
    found = evaluate(model, simple, (x, y), batch_size=5, metrics=metrics)
    assert found["loss"] == pytest.approx(expected, rel=1e-6) and set(found) == {"loss", "largest"}
    with pytest.raises(ValueError, match="not enough values to unpack") as caught:
        fitted((x, y, y), lambda model, batch: next(nn.mse(model(a), b) for a, b, _ in [batch]), validation=(x, y))
    assert caught.value.__notes__ == ["in the validation, after epoch 1"]
    assert evaluate(model, simple, [(x[:6], y[:6]), (x[6:], y[6:])])["loss"] == pytest.approx(expected, rel=1e-6)
    _, history = fitted(validation=(x, y), metrics=metrics, epochs=1)
    assert set(history[0]) == {"epoch", "step", "loss", "norm", "skipped", "lr", "val_loss", "val_largest", "seconds"}


@pytest.mark.parametrize("mode", ["min", "max"])
def test_an_early_stop_and_the_best_weights(mode, tmp_path):
    sign = 1 if mode == "min" else -1
    values = [3, 2, math.nan, 2, 1.5, 1.5, 9, 9, 0]
    weights = []

    def score(model, batch):
        weights.append(bits(model.state_dict()))
        return sign * values[len(weights) - 1]

    options = dict(epochs=20, validation=lines(), metrics={"score": score}, monitor="val_score", mode=mode, patience=3)
    model, history = fitted(**options, restore_best=True, checkpoint=tmp_path)
    assert len(history) == 8 and history.ended == "patience"
    assert bits(model.state_dict()) == weights[4]
    again, more = fitted(**options, restore_best=True, checkpoint=tmp_path, resume=True)
    assert len(weights) == 8 and repr(list(more)) == repr(list(history)) and more.ended == "patience"
    assert bits(again.state_dict()) == weights[4]
    weights.clear()
    assert bits(fitted(**options)[0].state_dict()) == weights[7]


def test_a_schedule_that_looks_at_what_is_monitored():
    values = iter([3.0, 3.0, 3.0, 3.0])
    model, optimizer = linear(lr=0.01)  # so that the loss itself gets better
    schedule = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    options = dict(schedule=schedule, validation=lines(), metrics={"x": lambda *_: next(values)}, monitor="val_x")
    history = fit(model, simple, lines(), optimizer=optimizer, epochs=4, progress=False, **options)
    assert history.column("lr") == [0.01, 0.01, 0.005, 0.0025] and history[3]["loss"] < history[0]["loss"]
    with pytest.raises(ValueError, match="schedule_each: ReduceLROnPlateau looks at what is monitored"):
        fit(model, simple, lines(), optimizer=optimizer, epochs=4, schedule=schedule, schedule_each="step")


def test_callbacks_see_each_epoch_and_may_end_the_run(tmp_path):
    seen = []

    def callback(moment):
        seen.append(moment.record["epoch"])
        assert moment.history[-1] is moment.record and moment.optimizer.lr == 0.1
        moment.stop = moment.record["epoch"] in (2, 3)

    _, history = fitted(callbacks=[callback], epochs=9, checkpoint=tmp_path)
    assert seen == [1, 2] and history.ended == "callback"
    fitted(callbacks=[callback], epochs=9, checkpoint=tmp_path, resume=True)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("clip", [None, 1.0])
def test_gradients_that_are_not_finite(clip):
    def broken(model, batch):
        return simple(model, batch) * (math.inf if batch[0].shape == (1, 2) else 1)

    def run(on_nonfinite):
        return fitted([lines(), lines(1), lines()], broken, 2, clip=clip, on_nonfinite=on_nonfinite)

    with pytest.raises(FloatingPointError, match="the norm of the gradients is") as caught:
        run("raise")
    assert caught.value.__notes__ == ["in step 2, in epoch 1"]
    assert str(caught.value).startswith("the loss is inf, and the norm of the gradients is ")
    steep = lambda model, batch: tg.sqrt((model(batch[0]) * 0).sum())  # noqa: E731 (the loss is 0)
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"^the norm of the gradients is nan"):
        fitted(loss=steep, clip=clip)
    model, history = run("skip")
    assert history.column("skipped") == [1, 1] and history.column("step") == [3, 6]
    assert np.isfinite([history.column("loss"), history.column("norm")]).all()
    assert bits(model.state_dict()) == bits(fitted([lines(), lines()], epochs=2, clip=clip)[0].state_dict())
    with np.errstate(invalid="ignore"):
        model, history = run("ignore")
    assert not np.isfinite(model.weight.data).all() and history[0]["skipped"] == 0


def test_it_runs_on_the_device_that_the_model_and_the_data_are_on(xp, tmp_path):
    def run(xp, device, **options):
        model = Net().to(device)
        data = tuple(xp.asarray(part) for part in sequences())
        optimizer = optim.Adam(model.parameters())
        options |= dict(batch_size=4, batch_axis=1, rng=0, epochs=2, progress=False, validation=data)
        fit(model, loss_of, data, optimizer=optimizer, **options)
        return model, model.state_dict()

    _, expected = run(np, "cpu")
    device = "cpu" if xp is np else "cuda"
    model, found = run(xp, device, checkpoint=tmp_path)
    assert next(model.parameters()).device.startswith(device)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6)
    assert bits(run(xp, device, checkpoint=tmp_path, resume=True)[1]) == bits(found)


# What is seen of it ---------------------------------------------------------------------------------------------------


def test_logs_are_the_history(tmp_path):
    for name in ("runs/run.csv", "runs/run.jsonl"):
        _, history = fitted(log=tmp_path / name, validation=lines(), metrics={"no": lambda *_: math.nan})
        with open(tmp_path / name, newline="", encoding="utf-8") as file:
            rows = [*csv.DictReader(file)] if name.endswith("csv") else [json.loads(line) for line in file]
        assert len(rows) == 3 and list(rows[0]) == list(history[0])
        for row, record in zip(rows, history):
            missing = row.pop("val_no")
            assert math.isnan(record.pop("val_no")) and missing == ("nan" if name.endswith("csv") else None)
            assert {key: float(value) for key, value in row.items()} == record
        before = (tmp_path / name).read_bytes()
        with pytest.raises(FileExistsError, match=r"log: .* is there already"):
            fitted(log=tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


def test_a_log_goes_on_from_the_checkpoint(tmp_path):
    options = dict(checkpoint=tmp_path / "folder", log=tmp_path / "run.jsonl", resume=True, every=2, epochs=5)
    with pytest.raises(Dead):
        fitted(loss=stopping(simple, 3, die), **options)
    assert len((tmp_path / "run.jsonl").read_text().splitlines()) == 3
    _, history = fitted(**options)
    logged = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert logged == list(history) and [record["epoch"] for record in logged] == [1, 2, 3, 4, 5]


def test_a_history_is_a_list_a_table_and_a_figure(monkeypatch):
    _, history = fitted(epochs=30)
    assert isinstance(history, list) and history.column("epoch") == [*range(1, 31)]
    rows = repr(history).splitlines()
    assert len(rows) == 22 and rows[0].split()[:3] == ["epoch", "step", "loss"] and rows[11] == "..."
    assert rows[-1].split()[0] == "30" and repr(History()) == "History: no epoch has ended"
    with pytest.raises(KeyError, match=r"expected one of .*'loss'.*got 'accuracy'"):
        history.column("accuracy")
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ax = history.plot()
    (line,) = ax.get_lines()
    assert line.get_ydata().tolist() == history.column("loss") and history.plot(ax) is ax
    plt.close(ax.figure)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'tinygrad_rnn\[train\]'"):
        history.plot()


@pytest.mark.parametrize("there", [True, False])
def test_progress_with_and_without_tqdm(there, monkeypatch, capsys):
    if there:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    fitted(progress=True, data=[lines()] * 4)
    out, err = capsys.readouterr()
    assert not out and ("12/12" in err) == there and err.count("epoch 3") >= 1 and "loss " in err
    fitted()
    assert capsys.readouterr() == ("", "")


# Ctrl-C, and kill -9 --------------------------------------------------------------------------------------------------

PROGRAM = """
    import sys, time
    import numpy as np
    import tinygrad_rnn as tg
    from tinygrad_rnn import nn, optim, train

    def loss(model, batch):
        print("step", flush=True)
        time.sleep({pause})
        return nn.mse(model(batch[0]), batch[1])

    model = nn.Linear(2, 1, rng=0)
    x = np.ones((4, 2), np.float32)
    history = train.fit(model, loss, (x, x[:, :1]), optimizer=optim.SGD(model.parameters()), steps=100_000,
                        progress=False, checkpoint=sys.argv[1])
    print(history.interrupted, history.ended, len(history), flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_finishes_the_step_and_the_second_one_does_not(times, tmp_path):
    code = textwrap.dedent(PROGRAM.format(pause=0.02 if times == 1 else 20))
    command = [sys.executable, "-c", code, str(tmp_path / "folder")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "step\n"
        process.send_signal(signal.SIGINT)
        if times == 2:
            assert "Ctrl-C: this step is finished" in process.stderr.readline() + process.stderr.readline()
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    if times == 1:
        assert process.returncode == 0, err
        steps = out.count("step") + 1
        assert out.splitlines()[-1] == f"True interrupt {steps}"
        (path, *_) = sorted((tmp_path / "folder").iterdir(), reverse=True)
        assert path.name == f"step-{steps:012}.npz"
    else:
        assert "KeyboardInterrupt" in err and process.returncode != 0


def test_ctrl_c_is_handled_as_before_when_it_is_over():
    handler = signal.getsignal(signal.SIGINT)
    fitted()
    with pytest.raises(Dead):
        fitted(loss=stopping(simple, 0, die))
    _, history = fitted(loss=stopping(simple, 1, press_ctrl_c))
    assert signal.getsignal(signal.SIGINT) is handler and history.ended == "interrupt" and len(history) == 2
    found = []
    thread = threading.Thread(target=lambda: found.append(fitted()[1].ended))
    thread.start()
    thread.join()
    assert found == ["epochs"]  # where no signals come


KILLED = """
    # A child trains and saves at every step; at a random moment it is killed; the next one goes on from there
    import os, random, signal, sys, time
    import numpy as np
    import tinygrad_rnn as tg
    from tinygrad_rnn import nn, optim, train

    class Big(nn.Module):
        def __init__(self):
            self.weights = [nn.Parameter(np.zeros(25_000)) for _ in range(4)]

    def fit(steps, folder, tell=lambda: None):
        model = Big()
        optimizer = optim.SGD(model.parameters(), lr=1.0, momentum=0.5)
        loss = lambda model, batch: [tell(), sum(w.sum() for w in model.weights)][1]
        return train.fit(model, loss, [0] * 10, optimizer=optimizer, steps=steps, every=1, checkpoint=folder,
                         keep=2, resume=True, progress=False)

    def looked_at(path):
        saved, step = tg.load(path), int(path[-16:-4])
        known = np.zeros(2)  # the weight and its momentum, by hand
        for _ in range(step):
            v = 0.5 * known[1] + 1
            known = np.array([known[0] - v, v])
        for i in range(4):
            assert (saved["model"][f"weights.{i}"] == known[0]).all()
            assert (saved["optimizer"]["state"][str(i)]["momentum_buffer"] == known[1]).all()
        return step

    folder, kills, before, moment = sys.argv[1], int(sys.argv[2]), 0, random.Random(0)
    fit(1, folder + "-first")  # so that all is imported
    halves = 0
    for _ in range(kills):
        began, begins = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                fit(10**9, folder, lambda: os.write(begins, b"!"))
            finally:
                os._exit(1)
        os.close(begins)
        os.read(began, 1), os.read(began, 1)  # the second step begins
        time.sleep(moment.uniform(0.0, 0.04))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(began)
        names = os.listdir(folder) if os.path.exists(folder) else []
        steps = [looked_at(f"{folder}/{name}") for name in names if name.startswith("step-")]
        assert not steps or max(steps) >= before, (steps, before)
        assert len(steps) <= 3 and len(names) - len(steps) <= 1, names  # an old one too many, and half a new one
        before, halves = max(steps, default=0), halves + len(names) - len(steps)
    fit(before + 1, folder)
    assert sorted(os.listdir(folder)) == [f"step-{step:012}.npz" for step in (before, before + 1)], os.listdir(folder)
    print(before, halves)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kills", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_leaves_a_whole_checkpoint(kills, tmp_path):
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(KILLED), str(tmp_path / "folder"), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    steps, halves = map(int, done.stdout.split())
    assert steps >= kills and halves  # they were not killed before they saved, and some were while they did


def test_a_disk_that_is_full_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    options = dict(checkpoint=tmp_path, resume=True, every=1, epochs=None)
    fitted(steps=2, **options)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fitted(steps=3, **options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    monkeypatch.undo()
    fitted(steps=9, keep=3, **options)
    assert [path.name[-6:] for path in sorted(tmp_path.iterdir())] == ["07.npz", "08.npz", "09.npz"]


# Files that are none of ours, and arguments that make no sense --------------------------------------------------------


class Resumable:
    """A run whose checkpoint can be spoilt; what it was before, to see that an error changes nothing."""

    def __init__(self, folder):
        self.folder = folder
        self.make()
        loss = stopping(loss_by_windows, 7, press_ctrl_c)  # in the middle of a sequence
        self.fit(loss)
        (self.path,) = folder.iterdir()
        self.whole = self.path.read_bytes()
        self.saved = tg.load(self.path)
        self.make()
        self.before = self.now()

    def make(self):
        self.model = Net()
        self.optimizer = optim.Adam(self.model.parameters())
        self.schedule = optim.StepLR(self.optimizer, 3)

    def fit(self, loss=loss_by_windows, **others):
        options = dict(
            model=self.model, loss=loss, data=sequences(10, 4), optimizer=self.optimizer, schedule=self.schedule,
            batch_axis=1, batch_size=2, window=4, validation=[sequences()], restore_best=True, keep=1, rng=0, epochs=2,
            checkpoint=self.folder, resume=True, progress=False,
        )  # fmt: skip
        return fit(**options | others)

    def now(self):
        draws = [rng.bit_generator.state for rng in nn.recurrent.drawn_from(self.model)]
        return bits([self.model.state_dict(), self.optimizer.state_dict(), self.schedule.state_dict(), draws])

    def is_refused(self):
        """Whether it is refused, and nothing has changed. None: it is loaded, all of it."""
        try:
            self.fit(stopping(loss_by_windows, 0, die))
        except CheckpointError as error:
            return str(error).startswith(str(self.path)) and self.now() == self.before
        except Dead:
            self.make()
            return None
        return False

    def known(self):
        return json.loads(self.saved["run"].tobytes())

    def with_known(self, known):
        self.write({**self.saved, "run": np.frombuffer(json.dumps(known).encode(), np.uint8)})

    def write(self, content):
        tg.save(self.path, content)


@pytest.fixture(scope="module")
def _resumable(tmp_path_factory):
    return Resumable(tmp_path_factory.mktemp("hostile") / "folder")


@pytest.fixture
def resumable(_resumable):
    yield _resumable
    _resumable.path.write_bytes(_resumable.whole)


ran = []  # events of Python's audit that must not happen while a file is read; a hook once set cannot be removed
listening = False


def listen(event, arguments):
    if listening and event in (
        "pickle.find_class",
        "marshal.loads",
        "exec",
        "compile",
        "os.system",
        "subprocess.Popen",
    ):
        ran.append((event, arguments[-1]))


def test_a_checkpoint_that_is_damaged_is_refused_and_nothing_is_run(resumable):
    assert resumable.is_refused() is None  # as it is, it is not
    rng, refused, spoilt = np.random.default_rng(0), [], []
    whole = np.frombuffer(resumable.whole, np.uint8)
    for _ in range(120):
        damaged = whole.copy()
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        spoilt.append(damaged)
    for _ in range(40):
        damaged = whole.copy()
        places = rng.integers(0, len(whole), rng.integers(2, 30))
        damaged[places] = rng.integers(0, 256, len(places))
        spoilt.append(damaged)
    spoilt += [whole[: rng.integers(len(whole))] for _ in range(40)]
    global listening
    sys.addaudithook(listen)
    listening = True
    eval("1")
    listening = False
    assert "exec" in dict(ran)
    ran.clear()
    for damaged in spoilt:
        resumable.path.write_bytes(damaged.tobytes())
        listening = True
        try:
            refused.append(resumable.is_refused())
        finally:
            listening = False
    assert refused.count(True) > 0.8 * len(refused) and False not in refused and all(refused[-40:])
    assert not [event for event in ran if event != ("compile", "<unknown>")]  # NumPy's headers, which are literals


class Evil:
    def __reduce__(self):
        return os.mkdir, ("this-must-not-be-made",)


def test_pickles_and_foreign_files_are_refused(resumable, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(resumable.path, run=np.array([Evil()], object))
    assert resumable.is_refused()
    resumable.path.write_bytes(__import__("pickle").dumps(Evil()))
    assert resumable.is_refused()
    tg.save(resumable.path, resumable.model.state_dict())
    assert resumable.is_refused()
    tg.save(resumable.path, {"run": {"a": 1}})
    assert resumable.is_refused()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model", "optimizer", "schedule", "best", "state", "run"])
def test_a_checkpoint_with_other_parts_is_refused(resumable, name):
    saved = resumable.saved
    if name != "best":  # without it is one of a run that had no epoch yet
        resumable.write({part: value for part, value in saved.items() if part != name})
        assert resumable.is_refused()
    for nonsense in (np.ones(3), "hello", {"a": 1.0}, {"-1": {"step": 1}}, {"0": {"0": {"0": 1}}}):
        resumable.write({**saved, name: nonsense})
        assert resumable.is_refused()
    resumable.write({**saved, "more": np.ones(2)})
    assert resumable.is_refused()


def leaves_of(tree, path=()):
    if isinstance(tree, dict):
        for name, part in tree.items():
            yield from leaves_of(part, (*path, name))
    else:
        yield path


def test_arrays_of_other_shapes_and_dtypes_are_refused(resumable):
    for *above, last in leaves_of(resumable.saved):
        if above[:1] in (["state"], []):
            continue
        spoils = [lambda a: np.stack([a, a, a]), lambda a: a.astype("U9"), lambda a: a.astype("c8")]
        for spoil in spoils[: 2 if last == "params" else 3]:  # 0j, 1+0j, ... are the numbers of parameters, too
            content = place = copied(resumable.saved)
            for name in above:
                place = place[name]
            place[last] = spoil(place[last])
            resumable.write(content)
            assert resumable.is_refused(), (above, last)


def copied(tree):
    return {name: copied(part) for name, part in tree.items()} if isinstance(tree, dict) else tree


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": -1}, {"epoch": 1.5}, {"epoch": "1"}, {"epoch": True}, {"epoch": None}, {"batch": 9},
        {"batch": 10**30, "step": 10**30},
        {"begin": -4}, {"step": []}, {"bad": -1}, {"seed": 3}, {"seed": [-1]}, {"seed": ["a"]}, {"seed": [1, 2]},
        {"sums": {}}, {"sums": {"loss": "a"}}, {"records": {}}, {"records": [1]}, {"records": [{"loss": "a"}]},
        {"best": "a"}, {"best": 1}, {"generators": []}, {"generators": [{}] * 4}, {"generators": 7}, {"settings": {}},
        {"settings": 1}, {"settings": {"window": 4}},
        {"form": 1}, {"form": "leaf"}, {"form": {"exec": ["leaf"]}}, {"form": {"tuple": 3}},
        {"more": 1},
    ],
)  # fmt: skip
def test_what_it_says_of_the_run_has_to_make_sense(resumable, change):
    resumable.with_known(resumable.known() | change)
    assert resumable.is_refused()
    name, *_ = change
    if name != "more":
        resumable.with_known({key: value for key, value in resumable.known().items() if key != name})
        assert resumable.is_refused()


def test_ctrl_c_while_a_checkpoint_is_loaded_changes_nothing(resumable, monkeypatch):
    monkeypatch.setattr(resumable.schedule, "load_state_dict", lambda _: press_ctrl_c())
    with pytest.raises(KeyboardInterrupt):
        resumable.fit()
    assert resumable.now() == resumable.before


def test_numbers_and_lists_without_end_are_refused(resumable):
    for text in ("[" * 100_000, '{"epoch": ' + "9" * 100_000 + "}", "NaN", "", "\x00", "{}"):
        resumable.write({**resumable.saved, "run": np.frombuffer(text.encode() or b" ", np.uint8)})
        assert resumable.is_refused()
    known = resumable.known()
    known["generators"][-1]["state"]["state"] = 10**3000  # after the others are set
    resumable.with_known(known)
    assert resumable.is_refused()


def differing(error):
    """The settings that an error says differ, line by line."""
    first, *lines, last = str(error.value).splitlines()
    assert first.endswith(".npz: it does not fit this run: it was made with other settings:")
    assert last.startswith("Pass what the run began with. To change it on purpose, begin another run from there")
    return [line[2:] for line in lines]


LONGER = tuple(np.concatenate([part, part[:1]]) for part in sequences(10, 4))


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({"batch_size": 3}, ["batch_size: 2 in the checkpoint, 3 given"]),
        ({"batch_axis": 0}, [r"batch_axis: \[1, 1\] in the checkpoint, \[0, 0\] given"]),
        ({"shuffle": False}, ["shuffle: True in the checkpoint, False given"]),
        ({"steps_per_epoch": 1}, ["steps_per_epoch: None in the checkpoint, 1 given"]),
        ({"window": 5}, ["window: 4 in the checkpoint, 5 given"]),
        ({"clip": 1.0}, ["clip: None in the checkpoint, 1.0 given"]),
        ({"on_nonfinite": "skip"}, ["on_nonfinite: raise in the checkpoint, skip given"]),
        ({"schedule_each": "step"}, ["schedule_each: epoch in the checkpoint, step given"]),
        ({"monitor": "loss"}, ["monitor: val_loss in the checkpoint, loss given"]),
        ({"mode": "max"}, ["mode: min in the checkpoint, max given"]),
        ({"restore_best": False}, ["restore_best: True in the checkpoint, False given"]),
        ({"validation": None}, ["validation: the checkpoint has one, a list of 1, and this run has none",
                                "monitor: val_loss in the checkpoint, loss given"]),
        ({"validation": [sequences(seed=3)]}, [r"validation.batches: checksum \w{8} in .*, checksum \w{8} given"]),
        ({"validation": [sequences()] * 2}, ["validation: a list of 1 in the checkpoint, a list of 2 given"]),
        ({"data": sequences(10, 4, seed=2)}, [
            rf"data.arrays\[{i}\]: float32 \(10, 4, {n}\), checksum (\w{{8}}) in the checkpoint, "
            rf"float32 \(10, 4, {n}\), checksum (?!\1)\w{{8}} given" for i, n in enumerate((2, 1))]),
        ({"data": (sequences(10, 4)[0], sequences(10, 4)[1].astype("f8"))}, [
            r"data.arrays\[1\]: float32 \(10, 4, 1\), checksum \w+ in .*, float64 \(10, 4, 1\), checksum \w+ given"]),
        ({"data": LONGER}, [rf"data.arrays\[{i}\]: .* \(10, 4, .* \(11, 4, .* given" for i in range(2)]),
        ({"data": (*sequences(10, 4), None)}, ["data: a tuple of 2 in the checkpoint, a tuple of 3 given",
                                               r"batch_axis: \[1, 1\] in the checkpoint, \[1, 1, 0\] given"]),
        ({"schedule": None}, ["schedule: the checkpoint has one, StepLR, and this run has none"]),
        ({"rng": 1}, ["rng: another seed in the checkpoint: pass the same; or None, .*"]),
        ({"clip": 2, "window": 2, "rng": 3}, ["window: 4 .*", "clip: None .*", "rng: .*"]),
    ],
)  # fmt: skip
def test_a_run_is_not_resumed_as_another_one(resumable, settings, lines):
    with pytest.raises(CheckpointError) as caught:
        resumable.fit(stopping(loss_by_windows, 0, die), **settings)
    for found, expected in itertools.zip_longest(differing(caught), lines, fillvalue=""):
        assert re.fullmatch(expected, found)
    assert resumable.now() == resumable.before


def test_another_model_optimizer_or_schedule_is_not_that_of_the_run(resumable):
    def lines(model=None, make=optim.Adam, schedule=lambda optimizer: optim.StepLR(optimizer, 3), **settings):
        model = model or Net()
        optimizer = make(model.parameters(), **settings)
        before = bits([model.state_dict(), optimizer.state_dict()])
        with pytest.raises(CheckpointError) as caught:
            resumable.fit(model=model, optimizer=optimizer, schedule=schedule(optimizer))
        assert bits([model.state_dict(), optimizer.state_dict()])[0] == before[0]
        return differing(caught)

    assert lines(lr=0.5) == ["optimizer.lr: 0.001 in the checkpoint, 0.5 given"]
    assert lines(betas=(0.8, 0.999)) == ["optimizer.betas: [0.9, 0.999] in the checkpoint, [0.8, 0.999] given"]
    assert lines(weight_decay=0.1) == ["optimizer.weight_decay: 0.0 in the checkpoint, 0.1 given"]
    assert lines(make=optim.AdamW) == ["optimizer: Adam in the checkpoint, AdamW given"]  # with the same moments
    apart = lambda ps: optim.Adam([{"params": [p]} for p in ps])  # noqa: E731
    (line,) = lines(make=apart)
    assert re.fullmatch(r"optimizer: Adam in the checkpoint, Adam with \d+ groups given", line)
    step = "schedule: StepLR in the checkpoint, {} given"
    assert lines(schedule=optim.ReduceLROnPlateau) == [step.format("ReduceLROnPlateau")]
    assert lines(schedule=lambda o: optim.StepLR(o, 4)) == ["schedule.step_size: 3 in the checkpoint, 4 given"]
    model = Net()
    model.layers.dropout.p = 0.5
    assert lines(model) == ["model.layers.dropout: Dropout(0.3) in the checkpoint, Dropout(0.5) given"]
    with pytest.raises(CheckpointError, match=r"expected the states of \d random generators, got"):
        resumable.fit(generators=[np.random.default_rng(0)])


def test_settings_may_be_numbers_of_numpys(tmp_path):
    def run(epochs, **options):
        model, optimizer = linear(lr=np.float32(0.1))
        options |= dict(clip=np.float64(1), window=np.int64(3), epochs=np.int64(epochs), every=np.int64(1))
        loss = lambda model, batch, state: (simple(model, batch), None)  # noqa: E731
        fit(model, loss, lines(), optimizer=optimizer, progress=False, checkpoint=tmp_path / "run", **options)
        return bits(model.state_dict())

    run(1, log=tmp_path / "log.jsonl")
    found = run(3, resume=True, log=tmp_path / "log.jsonl")
    (tmp_path / "run").rename(tmp_path / "before")
    assert run(3) == found


def test_a_schedule_where_there_was_none(tmp_path):
    fitted(checkpoint=tmp_path)
    model, optimizer = linear()
    with pytest.raises(CheckpointError) as caught:
        fit(model, simple, lines(), optimizer=optimizer, schedule=optim.ExponentialLR(optimizer, 0.9), epochs=9,
            progress=False, checkpoint=tmp_path, resume=True)  # fmt: skip
    assert differing(caught) == ["schedule: this run has one, ExponentialLR, and the checkpoint has none"]


def test_schedules_are_compared_by_how_they_were_made(tmp_path):
    def run(rate, milestone, epochs, **options):
        model = nn.Linear(2, 1, rng=0)
        groups = [{"params": [model.weight]}, {"params": [model.bias], "lr": rate}]
        optimizer = optim.SGD(groups, lr=0.1)
        parts = [optim.LinearLR(optimizer, 0.5, total_iters=2), optim.ExponentialLR(optimizer, 0.5)]
        schedule = optim.SequentialLR(optimizer, parts, [milestone])
        fit(model, simple, lines(), optimizer=optimizer, schedule=schedule, epochs=epochs, progress=False, **options)
        return bits([model.state_dict(), optimizer.state_dict(), schedule.state_dict()])

    folder = dict(checkpoint=tmp_path, resume=True)
    run(0.01, 2, 3, **folder)
    with pytest.raises(CheckpointError) as caught:
        run(0.02, 3, 6, **folder)
    assert differing(caught) == ["optimizer.param_groups[1].lr: 0.01 in the checkpoint, 0.02 given",
                                 "schedule.milestones: [2] in the checkpoint, [3] given"]  # fmt: skip
    assert run(0.01, 2, 6, **folder) == run(0.01, 2, 6)


def test_where_it_goes_on_in_the_same_process_its_rate_may_be_that_of_now(tmp_path):
    """The parts of a run that was interrupted are handed to fit() as they are; then another process makes them anew."""

    def made():
        model, optimizer = linear(lr=1e-9)  # so that nothing gets better by more than the threshold
        schedule = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        return dict(model=model, optimizer=optimizer, schedule=schedule)

    def run(parts, epochs, **options):
        fit(loss=simple, data=lines(), epochs=epochs, progress=False, **parts, **options)
        return bits([part.state_dict() for part in parts.values()])

    parts, folder = made(), dict(checkpoint=tmp_path, resume=True)
    parts["schedule"].eps = 0.0
    whole = made()
    whole["schedule"].eps = 0.0
    run(parts, 3, **folder)
    assert parts["optimizer"].lr == 0.25e-9
    run(parts, 5, **folder)
    again = made()
    again["schedule"].eps = 0.0
    assert again["optimizer"].lr == 1e-9
    assert run(again, 7, **folder) == run(whole, 7)
    again["optimizer"].lr = 0.3e-9
    with pytest.raises(CheckpointError) as caught:
        run(again, 9, **folder)
    assert differing(caught) == ["optimizer.lr: 1e-09 in the checkpoint, 3e-10 given"]


@pytest.mark.parametrize("moved", ["a schedule", "a callback"])
def test_what_a_run_has_moved_after_its_last_checkpoint_is_no_other_setting(moved, tmp_path):
    """An error ends it; the same cell of a notebook is run again, with the very same parts."""

    def parts():
        model, optimizer = linear()
        return dict(model=model, optimizer=optimizer, data=[lines()] * 10)

    def run(parts, loss=simple, **options):
        if moved == "a schedule":
            parts.setdefault("schedule", optim.ReduceLROnPlateau(parts["optimizer"], "min", 0.5, 0, threshold=10.0))
        else:
            options["callbacks"] = [lambda moment: setattr(moment.optimizer, "lr", moment.optimizer.lr * 0.5)]
        fit(loss=loss, epochs=5, progress=False, **parts, **options)
        return bits([parts["model"].state_dict(), parts["optimizer"].state_dict()])

    folder = dict(every=25, checkpoint=tmp_path, resume=True)
    parts_of_it = parts()
    with pytest.raises(Dead):
        run(parts_of_it, stopping(simple, 37, die), **folder)
    assert parts_of_it["optimizer"].lr == (0.025 if moved == "a schedule" else 0.0125)
    assert run(parts_of_it, **folder) == run(parts())
    parts_of_it["optimizer"].lr = 0.3  # but nobody else may have moved it
    with pytest.raises(CheckpointError) as caught:
        run(parts_of_it, **folder)
    assert differing(caught) == ["optimizer.lr: 0.1 in the checkpoint, 0.3 given"]


class Growing(Sums):
    """A task with a curriculum, which counts and measures for itself."""

    def __init__(self, length=3, sizes=(1, 9)):
        self.length, self.sizes, self.drawn, self.when = length, sizes, 0, [object(), math.nan, id(self)]

    def batch(self, size, rng=None):
        self.drawn += 1
        return sequences(self.length, size, rng)


class Warmer(optim.Schedule):
    def __init__(self, optimizer, top):
        self.top, self.asked = top, 0
        super().__init__(optimizer)

    def rate(self, base, steps):
        self.asked += 1
        return min(base * (1 + steps), self.top)


class Leaky(nn.Module):
    def __init__(self, leak, says):
        self.leak, self.says, self.inner, self.calls = leak, says, nn.Linear(2, 1, rng=0), 0
        self.drop = nn.Dropout(0.5, rng=1)

    def forward(self, x):
        self.calls += 1
        return self.inner(self.drop(x)) * self.leak

    def extra_repr(self):
        return f"leak={self.leak}" if self.says else ""


def grown(tmp_path, task=None, top=0.5, leak=0.1, says=True, model=None, epochs=2, **options):
    model, task = model or Leaky(leak, says), task or Growing()
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def callback(moment):
        task.length, task.sizes, model.drop.p = task.length + 5, (1, moment.record["step"]), model.drop.p * 0.5

    loss = lambda model, batch: nn.mse(model(batch[0]), batch[1])  # noqa: E731
    options = dict(checkpoint=tmp_path, resume=True, callbacks=[callback], progress=False) | options
    history = fit(model, loss, task, optimizer=optimizer, batch_size=2, steps_per_epoch=4, epochs=epochs,
                  schedule=Warmer(optimizer, top), **options)  # fmt: skip
    return model, task, history


def test_what_changes_on_ones_own_objects_is_no_other_setting(tmp_path):
    model, task, _ = grown(tmp_path)
    assert (task.length, model.drop.p, task.drawn) == (13, 0.125, 8) and model.calls
    model, task, _ = grown(tmp_path, task, model=model, epochs=3)  # the very same
    assert len(grown(tmp_path, epochs=4)[-1]) == 4  # as they were made at first
    model = Leaky(0.1, True)
    model.drop.p = 0.25
    assert len(grown(tmp_path, Growing(8, (1, 16)), model=model, epochs=5)[-1]) == 5  # as they were at the checkpoint


@pytest.mark.parametrize(
    ("others", "line"),
    [
        (dict(top=0.7), "schedule.top: 0.5 in the checkpoint, 0.7 given"),
        (dict(leak=0.9), "model: Leaky(leak=0.1) in the checkpoint, Leaky(leak=0.9) given"),
        (dict(task=Growing(4)), "data.length: 3 in the checkpoint, 4 given"),
        (dict(leak=0.9, says=False), None),  # then nobody says so
    ],
)
def test_what_ones_own_objects_were_made_with_is_compared(others, line, tmp_path):
    grown(tmp_path, says=others.get("says", True))
    if line is None:
        assert len(grown(tmp_path, epochs=3, **others)[-1]) == 3
        return
    with pytest.raises(CheckpointError) as caught:
        grown(tmp_path, epochs=3, **others)
    assert differing(caught) == [line]


def test_long_settings_are_checksums(tmp_path):
    class Long(Growing):
        def __init__(self, series, index, image, text):
            super().__init__()
            self.series, self.index, self.image, self.text = series, index, image, text

    given = dict(series=np.arange(1e5), index=[*range(10**5)], image=np.eye(3), text="ab" * 10**5)
    grown(tmp_path, Long(**given))
    *_, newest = sorted(tmp_path.iterdir())
    assert newest.stat().st_size < 30_000
    for name, other in {"series": given["series"][::-1], "index": [*range(10**5 - 1), 0], "image": -np.eye(3),
                        "text": given["text"][::-1]}.items():  # fmt: skip
        with pytest.raises(CheckpointError) as caught:
            grown(tmp_path, Long(**given | {name: other}), epochs=3)
        (line,) = differing(caught)
        assert re.fullmatch(rf"data\.{name}: .*checksum \w{{8}} in the checkpoint, .*checksum \w{{8}} given", line)
    assert written([1, "a", None, [2.5]]) == [1, "a", None, [2.5]] and written(np.arange(3)) == [0, 1, 2]
    many = [*range(1000)]
    assert contents([many, many]) == contents((many, many[:])) | {"kind": "a list of 2"}
    assert contents([many, many[:-1]]) != contents([many, many])


def test_what_is_seen_of_it_may_change_where_nothing_depends_on_it(tmp_path):
    """Validation where there was none; from then on, patience is by that."""
    folder = dict(checkpoint=tmp_path / "run", resume=True, rng=0, batch_size=5, log=tmp_path / "run.csv")
    values = iter([-3.0, -4.0, -4.0])  # all worse than the losses before: the best is that of these
    seen = dict(validation=lines(5), metrics={"x": lambda *_: next(values)}, monitor="val_x", mode="max")
    fitted(epochs=2, **folder)
    model, history = fitted(epochs=4, **seen, **folder)
    assert bits(model.state_dict()) == bits(fitted(epochs=4, rng=0, batch_size=5)[0].state_dict())
    np.testing.assert_array_equal(history.column("val_x"), [np.nan, np.nan, -3.0, -4.0])
    with open(tmp_path / "run.csv", newline="") as file:
        rows = [*csv.reader(file)]
    assert {*map(len, rows)} == {len(history[0])} and rows[0][-1] == "seconds"
    with pytest.raises(CheckpointError) as caught:
        fitted(epochs=9, patience=2, **folder)
    assert differing(caught) == ["validation: the checkpoint has one, a tuple of 2, and this run has none",
                                 "monitor: val_x in the checkpoint, loss given",
                                 "mode: max in the checkpoint, min given"]  # fmt: skip
    history = fitted(epochs=9, patience=2, **seen, **folder)[1]
    assert history.ended == "patience" and len(history) == 5
    history = fitted(epochs=6, **folder)[1]  # and without it again
    assert math.isnan(history[-1]["val_x"]) and history[3]["val_x"] == -4.0
    options = dict(checkpoint=tmp_path / "best", resume=True, restore_best=True, monitor="loss")
    fitted(epochs=2, **options)
    fitted(epochs=3, validation=lines(5), **options)  # by the loss, as before
    with pytest.raises(CheckpointError) as caught:
        fitted(epochs=4, **options | {"mode": "max"})
    assert differing(caught) == ["mode: min in the checkpoint, max given"]


def test_when_it_ends_and_what_is_seen_of_it_may_change(tmp_path):
    """As if it had been so from the beginning: patience, too, counts the epochs that there were before."""
    values = [3.0, 2.0, 2.5, 2.5, 2.5, 1.0, 5.0, 5.0, 5.0, 5.0]

    def run(**options):
        counts = iter(values[len(done) :])
        score = lambda model, batch: [done.append(0), next(counts)][1]  # noqa: E731
        model, history = fitted(validation=[lines()], metrics={"x": score}, monitor="val_x", rng=0, batch_size=5,
                                restore_best=True, **options)  # fmt: skip
        return bits(model.state_dict()), [{**record, "seconds": 0} for record in history], history.ended

    done = []
    expected = run(epochs=20, patience=4)
    assert len(done) == 10 and expected[2] == "patience"
    done, folder, seen = [], dict(checkpoint=tmp_path / "run", resume=True), []
    assert run(epochs=4, **folder)[2] == "epochs" and len(done) == 4
    assert run(epochs=20, patience=2, **folder)[2] == "patience" and len(done) == 4  # the third and the fourth
    assert run(epochs=None, steps=15, patience=3, **folder)[2] == "steps" and len(done) == 5
    others = dict(log=tmp_path / "run.csv", callbacks=[lambda moment: seen.append(moment.record["epoch"])], keep=1)
    assert run(epochs=20, patience=4, every=1, **others, **folder) == expected and seen == [6, 7, 8, 9, 10]


def test_data_are_compared_by_what_is_in_them(monkeypatch):
    x, y = sequences()
    crc = f"{binascii.crc32(x.tobytes()):08x}"
    for same in (x, np.asfortranarray(x), tg.tensor(x), np.repeat(x, 2, axis=0)[::2]):
        assert contents((same, None)) == {"kind": "a tuple of 2", "arrays": [
            f"float32 (6, 10, 2), checksum {crc}", "None"]}  # fmt: skip
    assert contents([(x, y)] * 3) == contents([[x.copy(), {"y": y}]] * 3)
    assert contents([(x, y)]) != contents([(y, x)])
    for other in (x[::-1], x[:, ::-1], -x, x.astype("f8"), x.reshape(10, 6, 2), x.view("i4"), np.nextafter(x, 1)):
        assert contents((other,)) != contents((x,))
        assert contents([other, y]) != contents([x, y])
    for odd in (x[:0], np.array(["a", "bc"]), np.array([None, x], object), np.zeros((3, 0)), np.ones(2, bool)):
        assert contents((odd,)) == contents((odd.copy(),))
    task = Sums()
    task.baseline = math.nan
    assert not differences(json.loads(json.dumps(contents(task))), contents(task))
    assert contents(Sums()) == {"kind": "Sums"} and contents(batches) == {"kind": "function"}
    assert contents(tg.tasks.Adding(22))["T"] == 22 and contents([0, "a", None])["kind"] == "a list of 3"
    monkeypatch.setitem(LOOKED_AT, "cpu", x.nbytes // 3)  # every third row
    for row in range(6):
        other = x.copy()
        other[row, -1] += 1
        assert (contents((other,)) == contents((x,))) == (row % 3 > 0)


def test_what_is_on_a_gpu_is_looked_at_there(xp):
    x = xp.asarray(sequences()[0])
    (said,) = contents((x,))["arrays"]
    assert said.startswith("float32 (6, 10, 2) on a GPU, checksum" if xp is not np else "float32 (6, 10, 2), checksum")
    assert contents((x.copy(),)) == contents((x,)) and contents([x, x]) == contents([x.copy(), x])
    for other in (x[::-1], -x, x + 1, x.reshape(10, 6, 2)):
        assert contents((other,)) != contents((x,)) and contents([other]) != contents([x])


def test_a_folder_belongs_to_one_run(tmp_path):
    fitted(checkpoint=tmp_path)
    with pytest.raises(FileExistsError, match="has checkpoints already: resume=True goes on"):
        fitted(checkpoint=tmp_path)


x3 = np.zeros((5, 4, 2), np.float32)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (dict(epochs=None), ValueError, "epochs, steps: expected at least one of them"),
        (dict(epochs=0), ValueError, "epochs: expected a whole number, at least 1, got 0"),
        (dict(steps=1.5), ValueError, "steps: expected a whole number"),
        (dict(batch_size=0), ValueError, "batch_size: expected a whole number, at least 1"),
        (dict(batch_axis=0), ValueError, "batch_axis: there are no batches to cut along it without a batch_size"),
        (dict(batch_size=2, batch_axis=2), ValueError, "batch_axis: expected an axis of each of"),
        (dict(batch_size=2, batch_axis=(0, 2)), ValueError, "batch_axis: expected an axis of each of"),
        (dict(batch_size=2, batch_axis=(0,)), ValueError, "batch_axis: expected an axis of each of"),
        (dict(batch_size=2, data=(x3, x3)), ValueError, r"batch_axis: .* told .* 1 for sequences, time first"),
        (dict(batch_size=2, data=(np.zeros((5, 4), int), x3)), ValueError, "batch_axis: expected to be told"),
        (dict(batch_size=2, batch_axis=1, data=(x3, x3[:, :3])), ValueError, r"number of samples, .* got \[4, 3\]"),
        (dict(batch_size=2, data=(x3[:0, 0],)), ValueError, "at least 1, got"),
        (dict(data=[]), ValueError, "data: epoch 1 has no batches"),
        (dict(data=lambda rng: iter(())), ValueError, "data: epoch 1 has no batches"),
        (dict(data=iter([lines()])), TypeError, "data: list_iterator: it can be read only once"),
        (dict(data=x3), TypeError, "data: expected a tuple of arrays"),
        (dict(data=7), TypeError, "data: expected a tuple of arrays"),
        (dict(data=[lines()], batch_size=2), ValueError, "batch_size: data, .* comes in batches as it is"),
        (dict(data=[lines()], shuffle=False), ValueError, "shuffle, batch_axis: they are for arrays"),
        (dict(data=Sums()), ValueError, "batch_size: expected how many sequences of the task"),
        (dict(steps_per_epoch=0), ValueError, "steps_per_epoch: expected a whole number"),
        (dict(window=0), ValueError, "window: expected a whole number"),
        (dict(window=2, data=[7], loss=loss_by_windows), TypeError,
         "window: expected batches that are tuples of arrays"),
        (dict(window=2, data=(x3, x3[1:]), loss=loss_by_windows), ValueError,
         "window: expected arrays that are time first, of one length"),
        (dict(window=2), TypeError, r"^loss: with window=, the loss is loss\(model, batch, state\), and returns "
                                    r"\(value, state\); got simple\(model, batch\)$"),
        (dict(loss=loss_by_windows), TypeError, r"^loss: without window=, the loss is loss\(model, batch\), and "
                                                r"returns the value; got loss_by_windows\(model, batch, state\)$"),
        (dict(loss=lambda model, batch, state=None: (simple(model, batch), state)), TypeError,
         "^loss: without window=, expected the value alone, got "),
        (dict(window=2, loss=lambda model, batch, state: 1), TypeError, r"loss\(model, batch, state\) to return"),
        (dict(loss=lambda model, batch: 1.0), TypeError, "loss: expected a tensor"),
        (dict(loss=lambda model, batch: model(batch[0])), Exception, "backward|single number|shape"),
        (dict(loss=None), TypeError, "loss: expected a function"),
        (dict(model=len), TypeError, "model: expected a module"),
        (dict(optimizer=optim.SGD), TypeError, "optimizer: expected one of the model's parameters"),
        (dict(optimizer=linear()[1]), ValueError, "optimizer: parameter 0 is none of the model's"),
        (dict(schedule=optim.StepLR(linear()[1], 2)), ValueError, "schedule: expected one that was made for this"),
        (dict(schedule_each="batch"), ValueError, "schedule_each: expected 'epoch' or 'step'"),
        (dict(clip=0), ValueError, "clip: expected a number above 0"),
        (dict(on_nonfinite="hope"), ValueError, "on_nonfinite: expected 'raise', 'skip' or 'ignore'"),
        (dict(validation=[]), TypeError, "validation: expected a tuple of arrays"),
        (dict(validation=Sums()), TypeError, "validation: expected a tuple of arrays"),
        (dict(metrics={"a": len}), ValueError, "metrics: they are measured on the data for validation"),
        (dict(metrics=[len], validation=lines()), TypeError, "metrics: expected functions"),
        (dict(metrics={"a": lambda *_: "x"}, validation=lines()), TypeError, "a: expected a single number, got 'x'"),
        (dict(metrics={"a": lambda *_: np.ones(2)}, validation=lines()), ValueError, "a: expected a single number"),
        (dict(monitor="val_loss", patience=1), ValueError, r"monitor: expected one of \['loss'\], got 'val_loss'"),
        (dict(mode="up"), ValueError, "mode: expected 'min' or 'max'"),
        (dict(patience=0), ValueError, "patience: expected a whole number, at least 1"),
        (dict(callbacks=len), TypeError, "callbacks: expected a list of functions"),
        (dict(callbacks=[3]), TypeError, "callbacks: expected a list of functions"),
        (dict(generators=[3]), TypeError, "generators: expected those that the loss draws from"),
        (dict(log="run.txt"), ValueError, "log: expected a name that ends in .csv or .jsonl"),
        (dict(resume=True), ValueError, "resume, every: expected a folder"),
        (dict(every=3), ValueError, "resume, every: expected a folder"),
        (dict(checkpoint="folder", keep=0), ValueError, "keep: expected a whole number, at least 1"),
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense(settings, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, optimizer = linear()
    before = bits([model.state_dict(), optimizer.state_dict()])
    options = dict(model=model, loss=simple, data=lines(), optimizer=optimizer, epochs=1, progress=False) | settings
    with pytest.raises(error, match=message):
        fit(**options)
    if "metrics" not in settings:
        assert bits([model.state_dict(), optimizer.state_dict()]) == before
    assert not any(tmp_path.iterdir())


def test_a_state_that_no_checkpoint_can_hold_is_refused(tmp_path):
    Pair = namedtuple("Pair", "h c")

    def loss(model, batch, state):
        value, state = loss_by_windows(model, batch, state)
        return value, Pair(*state)

    model = Net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    options = dict(optimizer=optimizer, epochs=1, window=2, every=1, checkpoint=tmp_path, progress=False)
    with pytest.raises(TypeError, match="state: a checkpoint within a sequence can hold tensors, and tuples"):
        fit(model, loss, sequences(), **options)
