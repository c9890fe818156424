"""Losses: their values, their gradients of every order, what they leave out, and what they refuse."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.nn import loss

RNG = np.random.default_rng(0)
T, B, F = 5, 3, 4
X, Y = RNG.standard_normal((2, T, B, F)) * 2
P = RNG.uniform(0, 1, (T, B, F))
CLASSES = RNG.integers(0, F, (T, B))
LENGTHS = np.array([2, 5, 0])
MASK = np.arange(T)[:, None] < LENGTHS

LOSSES = {
    "cross_entropy": (loss.cross_entropy, CLASSES, {}),
    "cross_entropy, smoothed": (loss.cross_entropy, CLASSES, dict(label_smoothing=0.2)),
    "binary": (loss.binary_cross_entropy_with_logits, P, {}),
    "mse": (loss.mse, Y, {}),
    "huber": (loss.huber, Y, {}),
    "huber, 0.3": (loss.huber, Y, dict(delta=0.3)),
}
each = pytest.mark.parametrize(("function", "targets", "settings"), LOSSES.values(), ids=LOSSES)


def expected_losses(name, x, y):
    """The losses of the elements, in NumPy alone."""
    if name.startswith("cross"):
        p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
        share = 0.2 if "smoothed" in name else 0
        return -(((1 - share) * np.eye(F)[y] + share / F) * np.log(p)).sum(-1)
    if name == "binary":
        p = 1 / (1 + np.exp(-x))
        return -y * np.log(p) - (1 - y) * np.log(1 - p)
    d = abs(x - y)
    if name == "mse":
        return d**2
    delta = 0.3 if "0.3" in name else 1
    return np.where(d < delta, d**2 / 2, delta * (d - delta / 2))


@pytest.mark.parametrize("name", LOSSES)
def test_values(name):
    function, targets, settings = LOSSES[name]
    expected = expected_losses(name, X, targets)
    np.testing.assert_allclose(function(X, targets, reduction="none", **settings), expected, rtol=1e-12)
    assert function(X, targets, reduction="sum", **settings) == pytest.approx(expected.sum(), rel=1e-12)
    assert function(X, targets, **settings) == pytest.approx(expected.mean(), rel=1e-12)
    for counts in (dict(lengths=LENGTHS), dict(mask=MASK), dict(mask=tg.tensor(MASK))):
        some = function(X, targets, reduction="none", **counts, **settings)
        np.testing.assert_allclose(some, np.where(MASK.reshape(MASK.shape + (1,) * (expected.ndim - 2)), expected, 0))
        assert function(X, targets, reduction="sum", **counts, **settings) == pytest.approx(expected[MASK].sum())
        assert function(X, targets, **counts, **settings) == pytest.approx(expected[MASK].mean(), rel=1e-12)
    one = function(X[0], targets[0], mask=np.array([True, False, True]), **settings)
    assert one == pytest.approx(expected[0][[0, 2]].mean(), rel=1e-12)


@each
def test_values_and_gradients_are_torchs(function, targets, settings):
    torch = pytest.importorskip("torch")
    import torch.nn.functional as F

    theirs = {
        loss.cross_entropy: lambda x, y, **s: F.cross_entropy(
            x.movedim(-1, 1), y, label_smoothing=settings.get("label_smoothing", 0.0), **s
        ),
        loss.binary_cross_entropy_with_logits: F.binary_cross_entropy_with_logits,
        loss.mse: F.mse_loss,
        loss.huber: lambda x, y, **s: F.huber_loss(x, y, delta=settings.get("delta", 1.0), **s),
    }[function]
    for reduction in ("mean", "sum", "none"):
        a, b = tg.tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
        ours = function(a, targets, reduction=reduction, **settings)
        other = theirs(b, torch.tensor(targets), reduction=reduction)
        np.testing.assert_allclose(ours.data, other.detach().numpy(), rtol=1e-12)
        ours.sum().backward()
        other.sum().backward()
        np.testing.assert_allclose(a.grad.data, b.grad.numpy(), rtol=1e-11, atol=1e-14)


def test_the_ignored_index_is_torchs():
    torch = pytest.importorskip("torch")
    for ignored in (-100, 2):
        y = np.where(CLASSES == 1, ignored, CLASSES)
        for smoothing in (0.0, 0.3):
            for reduction in ("mean", "sum", "none"):
                settings = dict(ignore_index=ignored, label_smoothing=smoothing, reduction=reduction)
                a, b = tg.tensor(X, requires_grad=True), torch.tensor(X, requires_grad=True)
                ours = loss.cross_entropy(a, y, **settings)
                theirs = torch.nn.functional.cross_entropy(b.movedim(-1, 1), torch.tensor(y), **settings)
                np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol=1e-12)
                ours.sum().backward()
                theirs.sum().backward()
                np.testing.assert_allclose(a.grad.data, b.grad.numpy(), rtol=1e-11, atol=1e-14)
                assert (a.grad.data[y == ignored] == 0).all()


@each
def test_gradients_of_first_and_second_order(function, targets, settings):
    for counts in ({}, dict(lengths=LENGTHS)):
        compute = functools.partial(function, **counts, **settings)
        if targets is CLASSES:
            tg.check_gradients(functools.partial(compute, targets=targets), X, order=2)
        else:
            tg.check_gradients(compute, X, targets, order=2)


@each
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_padding_touches_no_value_and_no_gradient(xp, function, targets, settings, reduction):
    """The same bits come out, whatever is in the padding; and the gradient there is exactly 0."""
    results = []
    for junk in (0.0, 1e30, np.inf, np.nan):
        x = np.where(MASK[..., None], X, junk)
        y = targets if targets is CLASSES else np.where(MASK[..., None], targets, junk)
        if targets is CLASSES:
            y = np.where(MASK, y, 0 if junk == 0 else 10_000)
        a, b = tg.tensor(xp.asarray(x), requires_grad=True), xp.asarray(y)
        out = function(a, b, lengths=LENGTHS, reduction=reduction, **settings)
        out.sum().backward()
        assert (a.grad.numpy()[~MASK] == 0).all()
        results.append((out.numpy().tobytes(), a.grad.numpy()[MASK].tobytes()))
    assert len(set(results)) == 1


@each
def test_nothing_that_counts(function, targets, settings):
    a = tg.tensor(X, requires_grad=True)
    out = function(a, targets, lengths=np.zeros(B, int), **settings)
    out.backward()
    assert float(out) == 0 and not a.grad.data.any()
    a = tg.tensor(X[:, :0], requires_grad=True)
    for counts in (dict(lengths=[]), dict(mask=MASK[:, :0])):
        out = function(a, targets[:, :0], **counts, **settings)
        out.backward()
        assert float(out) == 0 and out.dtype == a.dtype and a.grad.shape == a.shape


@each
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_stay(xp, function, targets, settings, dtype):
    x, y = xp.asarray(X.astype(dtype)), xp.asarray(targets if targets is CLASSES else targets.astype(dtype))
    for counts in ({}, dict(lengths=LENGTHS), dict(mask=xp.asarray(MASK))):
        for reduction in ("mean", "sum", "none"):
            a = tg.tensor(x, requires_grad=True)
            out = function(a, y, reduction=reduction, **counts, **settings)
            out.sum().backward()
            assert out.dtype == a.grad.dtype == dtype
            assert np.isfinite(out.numpy()).all()


def test_huge_logits_are_finite_and_keep_their_tails():
    x = tg.tensor([1000.0, -1000.0, 40.0, -40.0, 0.0], requires_grad=True)
    t = np.array([1, 0, 1, 0, 1])
    losses = loss.binary_cross_entropy_with_logits(x, t, reduction="none")
    np.testing.assert_allclose(losses.data, [0, 0, np.exp(-40), np.exp(-40), np.log(2)], rtol=1e-12)
    losses.sum().backward()
    np.testing.assert_allclose(x.grad.data, [0, 0, -np.exp(-40), np.exp(-40), -0.5], rtol=1e-12, atol=1e-300)
    wrong = loss.binary_cross_entropy_with_logits(np.array([1000.0, -1000.0]), np.array([False, True]), reduction="sum")
    assert wrong == 2000
    smooth = loss.cross_entropy(np.array([[1e3, -1e3]]), np.array([0]), label_smoothing=0.5)
    assert smooth == 500


def test_who_is_infinitely_sure_and_right_has_no_loss(xp):
    x = tg.tensor(xp.asarray([np.inf, -np.inf, np.inf, -np.inf, 0.0]), requires_grad=True)
    t = tg.tensor(xp.asarray([1.0, 0.0, 0.0, 1.0, 1.0]), requires_grad=True)
    losses = loss.binary_cross_entropy_with_logits(x, t, reduction="none")
    assert losses.tolist() == [0, 0, np.inf, np.inf, np.log(2)]
    losses.sum().backward()
    assert x.grad.tolist() == [0, 0, 1, -1, -0.5] and not np.isnan(t.grad.numpy()).any()


def test_targets_may_be_lists_and_booleans_tensors(xp):
    for dtype in (np.float16, np.float32, np.float64):
        x = tg.tensor(xp.asarray(X[0, 0].astype(dtype)))
        for function in (loss.mse, loss.huber, loss.binary_cross_entropy_with_logits):
            expected = function(x, xp.asarray(np.array([1, 0, 1, 0], dtype)))
            for target in ([1.0, 0.0, 1.0, 0.0], (1, 0, 1, 0), [True, False, True, False]):
                out = function(x, target)
                assert out.dtype == dtype and out.item() == expected.item()
        expected = loss.binary_cross_entropy_with_logits(x, xp.asarray([1, 0, 1, 0]))
        for target in (tg.tensor(xp.asarray([True, False, True, False])), tg.tensor(xp.asarray([1, 0, 1, 0]))):
            assert loss.binary_cross_entropy_with_logits(x, target).item() == expected.item()
    x = xp.asarray(X)
    assert loss.cross_entropy(x, CLASSES.tolist()) == loss.cross_entropy(x, xp.asarray(CLASSES))


def test_a_list_that_is_no_target_is_named():
    with pytest.raises(ValueError, match="expected numbers in a regular shape, got list") as caught:
        loss.cross_entropy(X, [[1], [1, 2]])
    assert caught.value.__notes__ == ["in targets, given as a list"]


def test_the_huber_loss_at_its_joints_and_at_zero():
    x = tg.tensor([-1.0, 0.0, 1.0, 5.0, -5.0], requires_grad=True)
    (gradient,) = tg.gradients(loss.huber(x, np.zeros(5), reduction="sum"), [x], create_graph=True)
    assert gradient.tolist() == [-1, 0, 1, 1, -1]
    (second,) = tg.gradients(gradient[1], [x])
    assert second[1].item() == 1


def test_the_masked_mean_of_losses_of_ones_own():
    x = tg.tensor(X, requires_grad=True)
    out = loss.masked_mean(abs(x), lengths=LENGTHS)
    out.backward()
    assert float(out) == pytest.approx(abs(X[MASK]).mean(), rel=1e-12)
    np.testing.assert_allclose(x.grad.data, np.sign(X) * MASK[..., None] / (MASK.sum() * F), rtol=1e-12)
    assert float(loss.masked_mean(X, mask=MASK)) == pytest.approx(X[MASK].mean())
    assert loss.masked_mean(X) == X.mean()


def test_a_mask_of_the_host_is_moved_and_nothing_waits():
    import fakecupy

    with fakecupy.installed() as cupy:
        x, y = tg.tensor(cupy.asarray(X), requires_grad=True), cupy.asarray(CLASSES)
        mask = cupy.asarray(MASK)
        before = fakecupy.copies_to_host()
        for counts in (dict(mask=mask), dict(mask=MASK), dict(lengths=LENGTHS)):
            loss.cross_entropy(x, y, ignore_index=0, **counts).backward()
            loss.mse(x, cupy.asarray(Y), **counts).backward()
            loss.binary_cross_entropy_with_logits(x, cupy.asarray(P), **counts).backward()
        assert fakecupy.copies_to_host() == before


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: loss.mse(X, Y[0]), ValueError, r"target: expected shape \(5, 3, 4\), .* got \(3, 4\)"),
        (lambda: loss.mse(X, 0.0), ValueError, "target: expected shape .*, got float"),
        (lambda: loss.mse(X, Y.astype(np.float32)), TypeError, r"target: expected float64, .* got float32"),
        (lambda: loss.mse(X, Y, reduction="avg"), ValueError, "reduction: expected 'mean', 'sum' or 'none', got 'avg'"),
        (lambda: loss.huber(X, Y, delta=0), ValueError, "delta: expected a number above 0, got 0"),
        (lambda: loss.huber(X, Y, mask=MASK.T), ValueError, r"mask: expected booleans .* got bool \(3, 5\)"),
        (lambda: loss.huber(X, Y, mask=MASK * 1.0), ValueError, r"mask: expected booleans .* got float64 \(5, 3\)"),
        (lambda: loss.huber(X, Y, mask=True), ValueError, "mask: expected booleans .* got True"),
        (lambda: loss.mse(X, Y, mask=MASK, lengths=LENGTHS), ValueError, "lengths, mask: .* got both"),
        (lambda: loss.mse(X, Y, lengths=LENGTHS[:2]), ValueError, "lengths: expected 3 integers"),
        (lambda: loss.mse(X, Y, lengths=LENGTHS + 1), ValueError, r"lengths: expected numbers from 0 to 5.*6 at \[1\]"),
        (lambda: loss.mse(np.ones(3), np.ones(3), lengths=LENGTHS), ValueError, r"lengths: expected losses \(time"),
        (lambda: loss.cross_entropy(X, P[0].tolist()), ValueError, r"targets: expected integers of shape \(5, 3\)"),
        (lambda: loss.cross_entropy(X, [[1], [1, 2]]), ValueError, "expected numbers in a regular shape, got list"),
        (lambda: loss.mse(X, ["a"]), TypeError, r"expected numbers in a regular shape, got list \(<U1\)"),
        (lambda: loss.mse(X[0, 0], [1j] * F), TypeError, "target: expected float64, .* got complex128"),
        (lambda: loss.mse(X, [tg.tensor(1.0, requires_grad=True)]), TypeError, "requires a gradient does not become"),
        (lambda: loss.cross_entropy(X.tolist(), CLASSES), TypeError,
         r"logits: expected an array or a tensor, got list: make one of it, with np.asarray\(logits\)"),
        (lambda: loss.binary_cross_entropy_with_logits([1.0], [1]), TypeError, "logits: .* got list"),
        (lambda: loss.mse([1.0], [1.0]), TypeError, r"prediction: .* got list: .* np.asarray\(prediction\)"),
        (lambda: loss.huber([1.0], [1.0]), TypeError, "prediction: .* got list"),
        (lambda: loss.masked_mean([1.0]), TypeError, "values: .* got list"),
        (lambda: loss.cross_entropy(X, CLASSES, label_smoothing=2), ValueError, "label_smoothing: expected"),
        (lambda: loss.cross_entropy(X, CLASSES - 1), ValueError, "targets: expected classes 0 to 3, got -1 to 2"),
        (lambda: loss.cross_entropy(X, CLASSES - 1, ignore_index=-2), ValueError, "targets: expected classes 0 to 3"),
        (lambda: loss.binary_cross_entropy_with_logits(X, Y), ValueError, "targets: expected numbers from 0 to 1"),
        (lambda: loss.binary_cross_entropy_with_logits(X, P[0]), ValueError, "targets: .* like the logits"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
