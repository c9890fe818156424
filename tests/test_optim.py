"""Optimisers, clipping and schedules: against their equations written out, and against PyTorch."""

from __future__ import annotations

import fakecupy
import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim

OPTIMISERS = [
    (optim.SGD, dict(lr=0.1)),
    (optim.SGD, dict(lr=0.1, momentum=0.9)),
    (optim.SGD, dict(lr=0.1, momentum=0.5, weight_decay=0.1)),
    (optim.SGD, dict(lr=0.1, momentum=0.5, dampening=0.3)),
    (optim.SGD, dict(lr=0.1, momentum=0.5, weight_decay=0.1, nesterov=True)),
    (optim.RMSprop, dict(lr=0.1)),
    (optim.RMSprop, dict(lr=0.1, alpha=0.6, eps=1e-3, weight_decay=0.1, momentum=0.5)),
    (optim.RMSprop, dict(lr=0.1, alpha=0.6, centered=True)),
    (optim.RMSprop, dict(lr=0.1, momentum=0.5, centered=True)),
    (optim.Adagrad, dict(lr=0.1)),
    (optim.Adagrad, dict(lr=0.1, lr_decay=0.2, weight_decay=0.1, initial_accumulator_value=0.3, eps=1e-3)),
    (optim.Adam, dict(lr=0.1)),
    (optim.Adam, dict(lr=0.1, betas=(0.5, 0.7), eps=1e-3, weight_decay=0.1)),
    (optim.AdamW, dict(lr=0.1)),
    (optim.AdamW, dict(lr=0.1, betas=(0.5, 0.7), weight_decay=0.1)),
]
IDS = [f"{make.__name__}-{'-'.join(settings)}" for make, settings in OPTIMISERS]


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


@pytest.mark.parametrize(("make", "settings"), OPTIMISERS, ids=IDS)
def test_optimisers_are_torchs(make, settings):
    torch = pytest.importorskip("torch")
    ours = parameters()
    theirs = [torch.tensor(p.data.copy(), requires_grad=True) for p in ours]
    run(make(ours, **settings), ours, range(20))
    optimizer = getattr(torch.optim, make.__name__)(theirs, **settings)
    for step in range(20):
        for p, g in zip(theirs, gradients_of(step)):
            p.grad = None if g is None else torch.tensor(g)
        optimizer.step()
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-12, atol=1e-14)


def equations(make, x, grads, **settings):
    """The values after each step, of one number at a time: the equations, as they are in the papers."""
    s = dict(
        lr=0.1, momentum=0, dampening=0, nesterov=False, alpha=0.99, centered=False, betas=(0.9, 0.999), lr_decay=0,
        initial_accumulator_value=0, weight_decay=0.01 if make is optim.AdamW else 0,
        eps=1e-10 if make is optim.Adagrad else 1e-8,
    ) | settings  # fmt: skip
    (b1, b2), mu, a = s["betas"], s["momentum"], s["alpha"]
    b = m = v = mean = 0.0
    total = s["initial_accumulator_value"]
    for t, g in enumerate(grads, 1):
        if make is optim.AdamW:
            x = (1 - s["lr"] * s["weight_decay"]) * x
        else:
            g = g + s["weight_decay"] * x
        if make is optim.SGD:
            b = g if t == 1 else mu * b + (1 - s["dampening"]) * g
            x = x - s["lr"] * (g + mu * b if s["nesterov"] else b if mu else g)
        elif make is optim.RMSprop:
            v, mean = a * v + (1 - a) * g**2, a * mean + (1 - a) * g
            b = mu * b + g / ((v - mean**2 if s["centered"] else v) ** 0.5 + s["eps"])
            x = x - s["lr"] * b
        elif make is optim.Adagrad:
            total = total + g**2
            x = x - s["lr"] / (1 + (t - 1) * s["lr_decay"]) * g / (total**0.5 + s["eps"])
        else:
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            x = x - s["lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)) ** 0.5 + s["eps"])
        yield x


@pytest.mark.parametrize(("make", "settings"), OPTIMISERS, ids=IDS)
def test_optimisers_are_their_equations(make, settings):
    p, grads = tg.tensor([1.0, -2.0], requires_grad=True), np.random.default_rng(0).standard_normal((20, 2))
    optimizer = make([p], **settings)
    expected = zip(*[equations(make, x, g, **settings) for x, g in zip([1.0, -2.0], grads.T.tolist())])
    for g, values in zip(grads, expected):
        p.grad = tg.tensor(g)
        optimizer.step()
        np.testing.assert_allclose(p.data, values, rtol=1e-11)


def test_the_centred_rmsprop_survives_gradients_that_do_not_change():
    for g in (0.1, 1 / 3, 1e-20):
        p = tg.tensor([1.0], requires_grad=True)
        optimizer = optim.RMSprop([p], lr=1e-12, alpha=0.5, centered=True)
        for _ in range(200):
            p.grad = tg.tensor([g])
            optimizer.step()
        assert np.isfinite(p.item())


# Groups of parameters


@pytest.mark.parametrize(("make", "settings"), OPTIMISERS, ids=IDS)
def test_groups_have_settings_of_their_own(make, settings):
    grouped, apart = parameters(), parameters()
    one = make([{"params": grouped[:1], "lr": 0.5}, {"params": iter(grouped[1:]), "weight_decay": 0.2}], **settings)
    two = [make(apart[:1], **{**settings, "lr": 0.5}), make(apart[1:], **{**settings, "weight_decay": 0.2})]
    run(one, grouped, range(4))
    for step in range(4):
        for p, g in zip(apart, gradients_of(step)):
            p.grad = None if g is None else tg.tensor(g)
        for optimizer in two:
            optimizer.step()
    for p, q in zip(grouped, apart):
        np.testing.assert_array_equal(p.data, q.data)
    assert one.parameters == grouped
    one.zero_grad()
    assert all(p.grad is None for p in grouped)


@pytest.mark.parametrize(("make", "settings"), OPTIMISERS, ids=IDS)
def test_groups_that_are_added_later_are_torchs(make, settings):
    torch = pytest.importorskip("torch")
    ours = parameters()
    theirs = [torch.tensor(p.data.copy(), requires_grad=True) for p in ours]
    added = {"lr": 0.3, "weight_decay": 0.2}
    a, b = make(ours[:2], **settings), getattr(torch.optim, make.__name__)(theirs[:2], **settings)
    for step in range(12):
        if step == 5:
            a.add_param_group({"params": ours[2], **added})
            b.add_param_group({"params": theirs[2], **added})
        for p, q, g in zip(ours, theirs, gradients_of(step)):
            p.grad, q.grad = None if g is None else tg.tensor(g), None if g is None else torch.tensor(g)
        a.step()
        b.step()
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-12, atol=1e-14)
    assert a.param_groups[0].keys() == a.param_groups[1].keys() and a.defaults["lr"] == 0.1
    again = make([{"params": ours[:2]}, {"params": ours[2]}], **settings)
    again.load_state_dict(a.state_dict())
    assert again.param_groups[1]["lr"] == 0.3


def test_a_group_that_does_not_fit_is_not_added():
    p, q, r = parameters()
    optimizer = optim.SGD([p, q], lr=0.1)
    for group, error, message in (
        ({"params": [r, p]}, ValueError, "one of them comes twice"),
        ({"params": r, "lr": -1}, ValueError, "lr: expected a finite number"),
        ({"params": r, "beta": 1}, ValueError, "group: expected a dict with 'params', and any of lr, .* 'beta'"),
        (r, ValueError, r"group: expected a dict with 'params', .*got float64 \(4,\)"),
        ({"params": tg.nn.Linear(2, 3)}, TypeError, "the module itself, a Linear"),
    ):
        with pytest.raises(error, match=message):
            optimizer.add_param_group(group)
        assert len(optimizer.param_groups) == 1 and len(optimizer.state) == 2


def test_the_learning_rate_of_all_groups():
    p, q, r = parameters()
    optimizer = optim.Adam([{"params": p}, {"params": [q, r], "lr": 0.5}], lr=0.1)
    with pytest.raises(ValueError, match="lr: it is not the same for all groups"):
        optimizer.lr  # noqa: B018
    optimizer.lr = 0.2
    assert optimizer.lr == optimizer.param_groups[1]["lr"] == 0.2
    with pytest.raises(ValueError, match="lr: expected a finite number"):
        optimizer.lr = float("nan")
    optimizer.param_groups[0]["eps"] = 1.0
    optimizer.step()


def test_groups_are_resumed_and_must_fit(tmp_path):
    def make(ps, **settings):
        return optim.RMSprop([{"params": ps[:2], "lr": 0.5}, {"params": ps[2:], "centered": True}], **settings)

    whole, halves = parameters(), parameters()
    run(make(whole, momentum=0.5), whole, range(8))
    first, second = make(halves, momentum=0.5), make(halves, momentum=0.1, alpha=0.3)
    run(first, halves, range(4))
    tg.save(tmp_path / "state.npz", first.state_dict())
    second.load_state_dict(tg.load(tmp_path / "state.npz"))
    assert second.param_groups == first.param_groups
    assert all(type(second.param_groups[0][name]) is type(x) for name, x in first.param_groups[0].items())
    run(second, halves, range(4, 8))
    for p, q in zip(whole, halves):
        np.testing.assert_array_equal(p.data, q.data)

    other = optim.RMSprop([{"params": halves[:1]}, {"params": halves[1:]}])
    with pytest.raises(ValueError, match=r"group 0: expected .* for parameters \[0\], got .* for \[0, 1\]"):
        other.load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match=r"state: expected groups \['0'\], got \['0', '1'\]"):
        optim.RMSprop(halves).load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match=r"group 0: expected \[.*'alpha'.*got \[.*'nesterov'"):
        optim.RMSprop(halves).load_state_dict(optim.SGD(halves).state_dict())
    bad = first.state_dict()
    bad["param_groups"]["1"]["alpha"] = 2.0
    with pytest.raises(ValueError, match="alpha: expected"):
        second.load_state_dict(bad)
    assert second.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(("make", "settings"), OPTIMISERS, ids=IDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_resumed_optimiser_goes_on_bit_for_bit(tmp_path, make, settings, dtype):
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


@pytest.mark.parametrize(("make", "settings"), OPTIMISERS, ids=IDS)
def test_a_step_writes_into_no_array_and_runs_on_every_backend(xp, make, settings):
    array = np.array([1.0, -2.0], np.float32)
    p = tg.tensor(xp.asarray(array), requires_grad=True)
    before, g = p.data, tg.tensor(xp.asarray(array * 2))
    optimizer = make([p], **settings)
    optim.clip_grad_value_([p], 1.0)
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
    wrong = {**good, "state": {**good["state"], "0": {"exp_avg": np.zeros(7)}}}
    with pytest.raises(ValueError, match=r"exp_avg of parameter 0: expected float64 \(2, 3\), got float64 \(7,\)"):
        optimizer.load_state_dict(wrong)
    with pytest.raises(ValueError, match="expected 3 parameters, got one of number 3"):
        optimizer.load_state_dict({**good, "state": {"3": {}}})
    with pytest.raises(ValueError, match="expected 3 parameters, got one of number -1"):
        optimizer.load_state_dict({**good, "state": {"-1": {}}})
    with pytest.raises(ValueError, match="state: step of parameter 0: expected a number not below 0, got -5"):
        optimizer.load_state_dict({**good, "state": {"0": {"step": -5}}})
    with pytest.raises(ValueError, match=r"state: expected groups \['0'\], got \[\]"):
        optimizer.load_state_dict({})
    assert optimizer.lr == 1e-3 and optimizer.state[0].keys() == before.keys()
    assert all(optimizer.state[0][name] is before[name] for name in before)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: optim.SGD([]), ValueError, "parameters: expected at least one"),
        (lambda p: optim.SGD(tg.nn.Linear(3, 2)), TypeError,
         r"parameters: expected those of a module, module.parameters\(\), got the module itself, a Linear"),
        (lambda p: optim.SGD(tg.nn.Sequential(tg.nn.Linear(3, 2))), TypeError, "the module itself, a Sequential"),
        (lambda p: optim.SGD([{"params": tg.nn.Linear(3, 2)}]), TypeError, "the module itself, a Linear"),
        (lambda p: optim.clip_grad_norm_(tg.nn.Linear(3, 2), 1.0), TypeError, "the module itself, a Linear"),
        (lambda p: optim.clip_grad_value_(tg.nn.Linear(3, 2), 1.0), TypeError, "the module itself, a Linear"),
        (lambda p: optim.SGD(3), TypeError, r"parameters: expected a tensor, or several, such as module.parameters\(\) "
                                            "gives, got 3"),
        (lambda p: optim.SGD([p], lr="a"), ValueError, "lr: expected a finite number, not below 0, got 'a'"),
        (lambda p: optim.SGD([p], lr=None), ValueError, "lr: expected a finite number, not below 0, got None"),
        (lambda p: optim.SGD([p], lr=np.ones(2)), ValueError, "lr: expected a finite number, not below 0, got array"),
        (lambda p: optim.Adam([p], betas=0.9), ValueError, r"betas: expected two numbers in \[0, 1\), got 0.9"),
        (lambda p: optim.Adam([p], eps="1e-8"), ValueError, "eps: expected a number not below 0, got '1e-8'"),
        (lambda p: optim.clip_grad_norm_([p], "1"), ValueError, "max_norm: expected a number above 0, got '1'"),
        (lambda p: optim.StepLR(optim.SGD([p]), 2, "0.1"), ValueError, "gamma: expected a number above 0, got '0.1'"),
        (lambda p: optim.SequentialLR(optim.SGD([p]), [], []), ValueError,
         r"schedulers: expected at least one schedule, got \[\]"),
        (lambda p: optim.SGD([p]).step("no"), ValueError, "on_nonfinite: expected 'raise', 'skip' or 'ignore', got 'n"),
        (lambda p: optim.SGD([p, p]), ValueError, "one of them comes twice"),
        (lambda p: optim.SGD([p * 2]), TypeError, r"parameters\[0\]: expected a tensor that was not computed"),
        (lambda p: optim.SGD([np.ones(2)]), TypeError, r"parameters\[0\]: .*got float64 \(2,\)"),
        (lambda p: optim.SGD([p], lr=-0.1), ValueError, "lr: expected a finite number, not below 0, got -0.1"),
        (lambda p: optim.SGD([p], lr=float("nan")), ValueError, "lr: expected a finite number, not below 0, got nan"),
        (lambda p: optim.SGD([p], momentum=1.0), ValueError, "momentum"),
        (lambda p: optim.SGD([p], weight_decay=-1), ValueError, "weight_decay"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), ValueError, "betas: expected two numbers in"),
        (lambda p: optim.Adam([p], eps=-1), ValueError, "eps"),
        (lambda p: optim.Adam([p], betas=(0.9,)), ValueError, "betas: expected two numbers in"),
        (lambda p: optim.SGD([p], nesterov=True), ValueError, "nesterov: expected a momentum above 0"),
        (lambda p: optim.SGD([p], momentum=0.5, dampening=0.1, nesterov=True), ValueError, "nesterov: .* no dampening"),
        (lambda p: optim.SGD([p], dampening=0.1), ValueError, "dampening: it does nothing without momentum"),
        (lambda p: optim.RMSprop([p], alpha=1.0), ValueError, "alpha"),
        (lambda p: optim.Adagrad([p], lr_decay=-1.0), ValueError, "lr_decay"),
        (lambda p: optim.Adagrad([p], initial_accumulator_value=-1.0), ValueError, "initial_accumulator_value"),
        (lambda p: optim.SGD([{"params": [p], "lr": -1.0}]), ValueError, "lr: expected"),
        (lambda p: optim.SGD([{"params": [p], "betas": 1}]), ValueError, r"parameters\[0\]: .* any of lr, .* 'betas'"),
        (lambda p: optim.SGD([{"params": [p]}, {"lr": 1.0}]), ValueError, r"parameters\[1\]: expected a dict with 'p"),
        (lambda p: optim.SGD([{"params": [p]}, p]), ValueError, r"parameters\[1\]: expected a dict .* got float64"),
        (lambda p: optim.SGD([{"params": []}]), ValueError, "parameters: expected at least one"),
        (lambda p: optim.SGD([{"params": p}, {"params": p}]), ValueError, "one of them comes twice"),
        (lambda p: optim.clip_grad_value_([p], 0), ValueError, "clip_value: expected a number above 0, got 0"),
        (lambda p: optim.clip_grad_norm_([p], 0), ValueError, "max_norm: expected a number above 0, got 0"),
        (lambda p: optim.clip_grad_norm_([p], 1.0, "raises"), ValueError, "on_nonfinite: expected 'raise'"),
        (lambda p: optim.CosineAnnealingLR(optim.SGD([p]), 0), ValueError, "T_max"),
        (lambda p: optim.StepLR(optim.SGD([p]), 0), ValueError, "step_size"),
        (lambda p: optim.ExponentialLR(optim.SGD([p]), 0), ValueError, "gamma"),
        (lambda p: optim.LinearLR(optim.SGD([p]), total_iters=0), ValueError, "total_iters"),
        (lambda p: optim.ReduceLROnPlateau(optim.SGD([p]), mode="low"), ValueError, "mode: expected 'min' or 'max'"),
        (lambda p: optim.ReduceLROnPlateau(optim.SGD([p]), factor=1.0), ValueError, "factor"),
        (lambda p: optim.Schedule(optim.SGD([p])), NotImplementedError, "Schedule: a schedule computes in rate"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make(tg.tensor([1.0, 2.0], requires_grad=True))


def test_the_base_has_no_equation():
    ps = with_gradients(np.ones(2))
    with pytest.raises(NotImplementedError, match="Optimizer: an optimiser computes in update"):
        optim.Optimizer(ps, lr=0.1).step()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_with_what_is_not_finite_is_ignored_skipped_or_raised(bad):
    ps = with_gradients(np.array([1.0]), np.array([bad, 1.0]))
    optimizer = optim.Adam(ps, lr=1.0)
    optimizer.step(on_nonfinite="skip")
    message = r'gradient of parameter 1, float64 \(2,\), is not finite: .* tg.anomaly\(\), or pass on_nonfinite="skip"'
    with pytest.raises(FloatingPointError, match=message):
        optimizer.step(on_nonfinite="raise")
    assert not any(p.data.any() for p in ps) and optimizer.state == [{}, {}]
    with np.errstate(invalid="ignore"):
        optimizer.step()
    assert ps[0].data.all() and np.isnan(ps[1].data[0])
    optimizer = optim.SGD(with_gradients(np.array([2.0])), lr=1.0)
    optimizer.step(on_nonfinite="raise")
    assert optimizer.parameters[0].tolist() == [-2]


def test_zero_grad_and_frozen_parameters():
    p, q = tg.tensor([1.0], requires_grad=True), tg.tensor([1.0])  # q is frozen
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


@pytest.mark.parametrize("g", [np.array([3.0, -4.0]), np.array([0.3, 0.4]), np.array([0.6, 0.8]), np.zeros(2)])
def test_clipping_is_the_rule_of_the_textbooks(g):
    """g becomes η g / ‖g‖ if ‖g‖ > η: or if ‖g‖ ≥ η, which is the same."""
    eta, norm = 1.0, np.linalg.norm(g)
    for rule in (norm > eta, norm >= eta):
        (p,) = with_gradients(g)
        optim.clip_grad_norm_([p], eta)
        np.testing.assert_allclose(p.grad.data, eta * g / norm if rule else g, rtol=1e-15)


def test_clipping_by_value(xp):
    g = np.array([-3.0, 0.5, np.inf, np.nan], np.float32)
    p = tg.tensor(xp.asarray(g), requires_grad=True)
    p.grad = before = tg.tensor(xp.asarray(g))
    optim.clip_grad_value_([p, tg.tensor([1.0], requires_grad=True)], 2.0)
    np.testing.assert_array_equal(p.grad.numpy(), np.array([-2, 0.5, 2, np.nan], np.float32))
    assert p.grad.dtype == np.float32 and before is not p.grad


def test_a_model_without_a_trained_part_has_a_norm_of_0():
    assert optim.clip_grad_norm_([], 1.0).item() == 0 and optim.clip_grad_norm_(iter(()), 1.0, "raise").ndim == 0
    optim.clip_grad_value_(tg.nn.Sequential().parameters(), 1.0)


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


@pytest.mark.parametrize("size", [1e140, 1e200, 1e307])
def test_large_float64_gradients_do_not_overflow(size):
    ps = with_gradients(np.array([3.0, 0.0]) * size, np.array(4.0) * size, np.zeros(0), np.array([1.0], np.float32))
    assert float(optim.clip_grad_norm_(ps, 1.0)) == pytest.approx(5 * size, rel=1e-15)
    np.testing.assert_allclose([ps[0].grad.data[0], ps[1].grad.item()], [0.6, 0.8], rtol=1e-15)


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


def sgd(lr=0.5):
    return optim.SGD([tg.tensor(1.0, requires_grad=True)], lr=lr)


SCHEDULES = {
    "cosine": lambda module, optimizer: module.CosineAnnealingLR(optimizer, 8, eta_min=0.1),
    "step": lambda module, optimizer: module.StepLR(optimizer, 3, gamma=0.3),
    "exponential": lambda module, optimizer: module.ExponentialLR(optimizer, 0.7),
    "warm-up": lambda module, optimizer: module.LinearLR(optimizer, total_iters=4),
    "decay": lambda module, optimizer: module.LinearLR(optimizer, 1.0, 0.1, 5),
    "one after another": lambda module, optimizer: module.SequentialLR(
        optimizer,
        [
            module.LinearLR(optimizer, 0.2, total_iters=3),
            module.CosineAnnealingLR(optimizer, 3, eta_min=0.01),
            module.ExponentialLR(optimizer, 0.5),
        ],
        milestones=[3, 6],
    ),
}


@pytest.mark.filterwarnings("ignore:.*epoch parameter:UserWarning")
@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
def test_schedules_are_torchs(make):
    torch = pytest.importorskip("torch")
    ps, qs = parameters()[:2], [torch.zeros(1, requires_grad=True) for _ in range(2)]
    kinds = ((optim.SGD, ps), (torch.optim.SGD, qs))
    ours, theirs = (kind([{"params": a}, {"params": b, "lr": 2.0}], lr=0.5) for kind, (a, b) in kinds)
    a, b = make(optim, ours), make(torch.optim.lr_scheduler, theirs)
    for _ in range(9):
        rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in (ours, theirs)]
        assert rates[0] == pytest.approx(rates[1], rel=1e-12)
        theirs.step()
        a.step()
        b.step()


def test_the_cosine_stays_down():
    optimizer = sgd()
    schedule = optim.CosineAnnealingLR(optimizer, 3, eta_min=0.1)
    for _ in range(5):
        schedule.step()
    assert optimizer.lr == 0.1


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
def test_a_schedule_is_resumed_exactly(tmp_path, make):
    (a, whole), (b, first) = ((o, make(optim, o)) for o in (sgd(), sgd()))
    for _ in range(7):
        whole.step()
    for _ in range(4):
        first.step()
    tg.save(tmp_path / "state.npz", {"optimizer": b.state_dict(), "schedule": first.state_dict()})
    saved = tg.load(tmp_path / "state.npz")
    c = sgd(lr=9.0)
    second = make(optim, c)
    c.load_state_dict(saved["optimizer"])
    second.load_state_dict(saved["schedule"])
    assert c.lr == b.lr
    for _ in range(3):
        second.step()
    assert c.lr == a.lr


def test_a_schedule_made_for_a_loaded_optimiser_starts_from_the_same_rate():
    a = sgd()
    schedule = optim.ExponentialLR(a, 0.5)
    schedule.step()
    b = sgd()
    b.load_state_dict(a.state_dict())
    assert b.lr == 0.25 and optim.ExponentialLR(b, 0.5).base_lrs == [0.5]
    b.lr = 0.1
    assert optim.ExponentialLR(b, 0.5).base_lrs == [0.1]


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
def test_a_group_that_is_added_later_joins_the_schedule(make):
    p, q, _ = parameters()
    optimizer, whole = optim.SGD([p], lr=0.5), sgd(lr=2.0)
    a, b = make(optim, optimizer), make(optim, whole)
    for step in range(9):
        if step == 4:
            optimizer.add_param_group({"params": q, "lr": 2.0})
            assert optimizer.param_groups[1]["lr"] == 2
        a.step()
        b.step()
        if step >= 4:
            assert optimizer.param_groups[1]["lr"] == whole.lr
    again = optim.SGD([{"params": p}, {"params": q}])
    again.load_state_dict(optimizer.state_dict())
    assert make(optim, again).base_lrs == a.base_lrs == [0.5, 2.0]


@pytest.mark.parametrize(
    "change",
    [
        lambda o: optim.StepLR(o, 1).step(),
        lambda o: setattr(o, "lr", 0.1),
        lambda o: o.param_groups[0].update(lr=0.1),
        lambda o: [*map(optim.ReduceLROnPlateau(o, patience=0).step, (1, 2))],
    ],
    ids=["another schedule", "lr", "a group", "a plateau"],
)
def test_what_a_schedule_would_undo_is_an_error(change):
    optimizer = sgd()
    schedule = optim.ExponentialLR(optimizer, 0.5)
    schedule.step()
    change(optimizer)
    message = r"ExponentialLR: the learning rate is 0\.\d+, not 0.25, as it left it: nothing else may change it."
    with pytest.raises(RuntimeError, match=message):
        schedule.step()
    assert schedule.steps == 1


def test_schedules_that_do_not_fit():
    optimizer = sgd()
    parts = [optim.LinearLR(optimizer), optim.ExponentialLR(optimizer, 0.5)]
    for milestones in ([], [0], [3, 2], [1, 2]):
        with pytest.raises(ValueError, match="milestones: expected 1 rising numbers of steps, between 2 schedules"):
            optim.SequentialLR(optimizer, parts, milestones)
    for part in (optim.ExponentialLR(sgd(), 0.5), optim.ReduceLROnPlateau(optimizer)):
        with pytest.raises(TypeError, match=r"schedulers\[1\]: expected a schedule of the same optimiser"):
            optim.SequentialLR(optimizer, [parts[0], part], [2])
    with pytest.raises(ValueError, match="base_lrs of 1 groups"):
        parts[0].load_state_dict({"base_lrs": [1.0, 2.0], "steps": 1})


PLATEAUS = [
    dict(factor=0.5, patience=2),
    dict(factor=0.5, patience=0, cooldown=3, min_lr=0.02),
    dict(mode="max", patience=1, threshold=0.1),
    dict(mode="max", patience=1, threshold=0.1, threshold_mode="abs", eps=0.01),
    dict(patience=1, threshold=0.05, threshold_mode="abs"),
]


@pytest.mark.parametrize("settings", PLATEAUS)
def test_the_plateau_is_torchs_and_resumed(settings):
    torch = pytest.importorskip("torch")
    metrics = np.random.default_rng(0).uniform(0.5, 2, 40).tolist()
    metrics[7] = float("nan")
    optimizer, theirs = sgd(), torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    a = optim.ReduceLROnPlateau(optimizer, **settings)
    b = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **settings)
    for metric in metrics:
        theirs.step()
        a.step(metric)
        b.step(metric)
        assert optimizer.lr == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)
        state, a = a.state_dict(), optim.ReduceLROnPlateau(optimizer, **settings)
        a.load_state_dict({name: np.asarray(x) for name, x in state.items()})
    assert optimizer.lr < 0.5


def test_a_plateau_below_zero_is_one():
    """A share of the best is taken of its size: PyTorch would call the same loss better, if it is negative."""
    optimizer = sgd()
    schedule = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    for _ in range(3):
        schedule.step(-1.0)
    assert optimizer.lr == 0.25


def test_an_infinite_max_norm_only_asks_for_the_norm():
    p = tg.tensor([3.0, 4.0], requires_grad=True)
    for g in ([3.0, 4.0], [0.0, 0.0]):
        p.grad = tg.tensor(g)
        assert float(optim.clip_grad_norm_([p], np.inf)) == np.hypot(*g)
        assert p.grad.tolist() == g


def test_an_optimiser_does_not_undo_a_conversion():
    model = nn.Linear(2, 1, rng=0, dtype=np.float64)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    model(np.ones((1, 2))).sum().backward()
    optimizer.step()
    model.astype(np.float32)
    with pytest.raises(TypeError, match=r"Adam: a parameter is float32 .* now, and its \w+ float64: make"):
        optimizer.step()
    assert model.weight.dtype == np.float32
