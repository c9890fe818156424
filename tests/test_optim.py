"""Optimisers, clipping and schedules: against their equations written out, and against PyTorch."""

from __future__ import annotations

import fakecupy
import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import optim

OPTIMISERS = [
    (optim.SGD, "SGD", dict(lr=0.1)),
    (optim.SGD, "SGD", dict(lr=0.1, momentum=0.9)),
    (optim.SGD, "SGD", dict(lr=0.1, momentum=0.5, weight_decay=0.1)),
    (optim.Adam, "Adam", dict(lr=0.1)),
    (optim.Adam, "Adam", dict(lr=0.1, betas=(0.5, 0.7), eps=1e-3, weight_decay=0.1)),
    (optim.Adam, "AdamW", dict(lr=0.1, weight_decay=0.1, decoupled=True)),
]
IDS = [f"{name}-{i}" for i, (_, name, _) in enumerate(OPTIMISERS)]


def parameters(dtype=np.float64):
    rng = np.random.default_rng(0)
    return [tg.tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True) for shape in ((2, 3), (), (4,))]


def gradients_of(step, dtype=np.float64):
    """The gradients of a step; now and then one is missing."""
    rng = np.random.default_rng(step + 1)
    grads = [rng.standard_normal(shape).astype(dtype) for shape in ((2, 3), (), (4,))]
    return [None if (step + i) % 5 == 0 else np.asarray(g) for i, g in enumerate(grads)]


def run(optimizer, ps, steps, dtype=np.float64):
    for step in steps:
        for p, g in zip(ps, gradients_of(step, dtype)):
            p.grad = None if g is None else tg.tensor(g)
        optimizer.step()


@pytest.mark.parametrize(("make", "name", "settings"), OPTIMISERS, ids=IDS)
def test_optimisers_are_torchs(make, name, settings):
    torch = pytest.importorskip("torch")
    ours = parameters()
    theirs = [torch.tensor(p.data.copy(), requires_grad=True) for p in ours]
    run(make(ours, **settings), ours, range(12))
    keywords = {key: value for key, value in settings.items() if key != "decoupled"}
    optimizer = getattr(torch.optim, name)(theirs, **keywords)
    for step in range(12):
        for p, g in zip(theirs, gradients_of(step)):
            p.grad = None if g is None else torch.tensor(g)
        optimizer.step()
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-12)


def test_sgd_and_adam_are_their_equations():
    p, q = tg.tensor([1.0, -2.0], requires_grad=True), tg.tensor([1.0, -2.0], requires_grad=True)
    sgd, adam = optim.SGD([p], lr=0.1, momentum=0.9), optim.Adam([q], lr=0.1)
    x, y, velocity, m, v = p.numpy(), q.numpy(), 0, 0, 0
    for t in range(1, 6):
        g = np.array([t, -1.0 / t])
        p.grad = q.grad = tg.tensor(g)
        sgd.step()
        adam.step()
        velocity = 0.9 * velocity + g
        x = x - 0.1 * velocity
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        y = y - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        np.testing.assert_allclose(p.data, x, rtol=1e-14)
        np.testing.assert_allclose(q.data, y, rtol=1e-12)


@pytest.mark.parametrize(("make", "name", "settings"), OPTIMISERS, ids=IDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_resumed_optimiser_goes_on_bit_for_bit(tmp_path, make, name, settings, dtype):
    whole, halves = parameters(dtype), parameters(dtype)
    run(make(whole, **settings), whole, range(8), dtype)
    first = make(halves, **settings)
    run(first, halves, range(4), dtype)
    tg.save(tmp_path / "state.npz", first.state_dict())
    second = make(halves, **{**settings, "lr": 99.0})
    second.load_state_dict(tg.load(tmp_path / "state.npz"))
    run(second, halves, range(4, 8), dtype)
    for p, q in zip(whole, halves):
        assert p.dtype == q.dtype == dtype
        np.testing.assert_array_equal(p.data, q.data)
        assert isinstance(q.data, np.ndarray)


@pytest.mark.parametrize(("make", "name", "settings"), OPTIMISERS, ids=IDS)
def test_a_step_writes_into_no_array_and_runs_on_every_backend(xp, make, name, settings):
    array = np.array([1.0, -2.0], np.float32)
    p = tg.tensor(xp.asarray(array), requires_grad=True)
    before, g = p.data, tg.tensor(xp.asarray(array * 2))
    optimizer = make([p], **settings)
    for _ in range(3):
        p.grad = g
        optim.clip_grad_norm_([p], 1.0)
        optimizer.step()
    assert p.data is not before and before.tolist() == [1, -2] and g.tolist() == [2, -4]
    assert p.dtype == np.float32 and type(p._data) is type(before if xp is not np else array)
    optimizer.load_state_dict(optimizer.state_dict())
    p.grad = g
    optimizer.step()


def test_a_bad_state_changes_nothing():
    ps = parameters()
    optimizer = optim.Adam(ps)
    run(optimizer, ps, range(2))
    good, before = optimizer.state_dict(), dict(optimizer.state[0])
    wrong = {"lr": 3.0, "state": {**good["state"], "0": {"exp_avg": np.zeros(7)}}}
    with pytest.raises(ValueError, match=r"exp_avg of parameter 0: expected float64 \(2, 3\), got float64 \(7,\)"):
        optimizer.load_state_dict(wrong)
    with pytest.raises(ValueError, match="expected 3 parameters, got one of number 3"):
        optimizer.load_state_dict({"lr": 3.0, "state": {"3": {}}})
    assert optimizer.lr == 1e-3 and optimizer.state[0].keys() == before.keys()
    assert all(optimizer.state[0][name] is before[name] for name in before)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: optim.SGD([]), ValueError, "parameters: expected at least one"),
        (lambda p: optim.SGD([p, p]), ValueError, "one of them comes twice"),
        (lambda p: optim.SGD([p * 2]), TypeError, r"parameters\[0\]: expected a tensor that was not computed"),
        (lambda p: optim.SGD([np.ones(2)]), TypeError, r"parameters\[0\]: .*got float64 \(2,\)"),
        (lambda p: optim.SGD([p], lr=0), ValueError, "lr: expected a positive number, got 0"),
        (lambda p: optim.SGD([p], lr=float("nan")), ValueError, "lr: expected a positive number, got nan"),
        (lambda p: optim.SGD([p], momentum=1.0), ValueError, "momentum"),
        (lambda p: optim.SGD([p], weight_decay=-1), ValueError, "weight_decay"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), ValueError, "betas: expected two numbers in"),
        (lambda p: optim.Adam([p], eps=-1), ValueError, "eps"),
        (lambda p: optim.clip_grad_norm_([p], 0), ValueError, "max_norm: expected a number above 0, got 0"),
        (lambda p: optim.clip_grad_norm_([p], 1.0, "raises"), ValueError, "on_nonfinite: expected 'raise'"),
        (lambda p: optim.CosineAnnealingLR(optim.SGD([p]), 0), ValueError, "T_max"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make(tg.tensor([1.0, 2.0], requires_grad=True))


def test_zero_grad_and_frozen_parameters():
    p, q = tg.tensor([1.0], requires_grad=True), tg.tensor([1.0])
    optimizer = optim.SGD([p, q], lr=1.0)
    p.grad = tg.tensor([1.0])
    optimizer.step()
    optimizer.zero_grad()
    assert p.tolist() == [0] and q.tolist() == [1] and p.grad is None


# Clipping


def with_gradients(*grads):
    ps = [tg.tensor(np.zeros_like(g), requires_grad=True) for g in grads]
    for p, g in zip(ps, grads):
        p.grad = tg.tensor(g)
    return ps


def test_clipping_scales_all_gradients_by_one_factor():
    ps = with_gradients(np.array([3.0, 0.0]), np.array(4.0))
    ps.append(tg.tensor([1.0], requires_grad=True))
    assert float(optim.clip_grad_norm_(ps, 1.0)) == 5.0
    assert ps[0].grad.tolist() == pytest.approx([0.6, 0]) and ps[1].grad.item() == pytest.approx(0.8)
    assert ps[2].grad is None


def test_gradients_below_the_limit_keep_every_bit():
    ps = with_gradients(np.array([0.3, 0.1], np.float32))
    assert float(optim.clip_grad_norm_(ps, 1.0)) == pytest.approx(0.1**0.5)
    assert ps[0].grad.tolist() == np.array([0.3, 0.1], np.float32).tolist()


def test_large_float32_gradients_do_not_overflow_and_zeros_stay():
    ps = with_gradients(np.array([3e30, 4e30], np.float32))
    assert float(optim.clip_grad_norm_(ps, 1.0)) == pytest.approx(5e30)
    assert ps[0].grad.tolist() == pytest.approx([0.6, 0.8]) and ps[0].grad.dtype == np.float32
    ps = with_gradients(np.zeros(3))
    assert float(optim.clip_grad_norm_(ps, 1.0)) == 0 and ps[0].grad.tolist() == [0, 0, 0]
    assert float(optim.clip_grad_norm_([tg.tensor(1.0, requires_grad=True)], 1.0)) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_raised_skipped_or_ignored(bad):
    ps = with_gradients(np.array([bad, 1.0]), np.array([1.0]))
    with pytest.raises(FloatingPointError, match=r"the norm of the gradients is (nan|inf)"):
        optim.clip_grad_norm_(ps, 1.0)
    assert ps[1].grad.tolist() == [1]
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(float(optim.clip_grad_norm_(ps, 1.0, on_nonfinite="ignore")))
    assert np.isnan(ps[0].grad.data[0])
    assert not np.isfinite(float(optim.clip_grad_norm_(ps, 1.0, on_nonfinite="skip")))
    assert all(p.grad is None for p in ps)


def test_clipping_is_torchs():
    torch = pytest.importorskip("torch")
    ps = parameters()
    qs = [torch.tensor(p.data.copy(), requires_grad=True) for p in ps]
    for p, q, g in zip(ps, qs, gradients_of(1)):
        p.grad, q.grad = tg.tensor(g), torch.tensor(g)
    ours, theirs = optim.clip_grad_norm_(ps, 0.5), torch.nn.utils.clip_grad_norm_(qs, 0.5)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-12)
    for p, q in zip(ps, qs):
        np.testing.assert_allclose(p.grad.data, q.grad.numpy(), rtol=2e-6)


@pytest.mark.parametrize(("on_nonfinite", "waits"), [("ignore", 0), ("raise", 1), ("skip", 1)])
def test_clipping_on_a_gpu_waits_only_if_it_has_to(on_nonfinite, waits):
    with fakecupy.installed() as cupy:
        ps = [tg.tensor(cupy.asarray(np.ones(3, np.float32)), requires_grad=True) for _ in range(3)]
        optimizer = optim.Adam(ps)
        for p in ps:
            p.grad = tg.tensor(cupy.asarray(np.ones(3, np.float32)))
        before = fakecupy.copies_to_host()
        norm = optim.clip_grad_norm_(ps, 1.0, on_nonfinite)
        optimizer.step()
        assert fakecupy.copies_to_host() - before == waits
        assert norm.device.startswith("cuda") and float(norm) == 3


# Schedules


def test_the_cosine_is_torchs():
    torch = pytest.importorskip("torch")
    ours = optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.5)
    theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    a = optim.CosineAnnealingLR(ours, 7, eta_min=0.1)
    b = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, 7, eta_min=0.1)
    for _ in range(7):
        theirs.step()
        a.step()
        b.step()
        assert ours.lr == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)
    a.step()
    assert ours.lr == pytest.approx(0.1)


def test_a_schedule_is_resumed_exactly():
    def make():
        optimizer = optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=0.5)
        return optimizer, optim.CosineAnnealingLR(optimizer, 9)

    (a, whole), (b, first), (c, second) = make(), make(), make()
    for _ in range(6):
        whole.step()
    for _ in range(3):
        first.step()
    c.load_state_dict(b.state_dict())
    second.load_state_dict(first.state_dict())
    assert c.lr == b.lr
    for _ in range(3):
        second.step()
    assert c.lr == a.lr
