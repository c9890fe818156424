"""Initialisers: what is drawn has the shape, the dtype and the size that it should, and a seed repeats it."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_rnn.nn import init

DRAWN = {
    "uniform": lambda shape, **k: init.uniform(shape, 0.3, **k),
    "normal": lambda shape, **k: init.normal(shape, 0.3, **k),
    "orthogonal": init.orthogonal,
    "xavier_uniform": init.xavier_uniform,
    "xavier_normal": init.xavier_normal,
    "kaiming_uniform": init.kaiming_uniform,
    "kaiming_normal": init.kaiming_normal,
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_seed_repeats_the_bits_and_a_generator_goes_on(draw, dtype):
    a, b, c = (draw((3, 5), rng=seed, dtype=dtype) for seed in (7, 7, 8))
    assert a.shape == (3, 5) and a.dtype == dtype and a.tobytes() == b.tobytes() != c.tobytes()
    rng = np.random.default_rng(7)
    assert draw((3, 5), rng=rng, dtype=dtype).tobytes() == a.tobytes() != draw((3, 5), rng=rng, dtype=dtype).tobytes()
    assert draw((3, 5)).tobytes() != draw((3, 5)).tobytes() and draw((3, 5)).dtype == np.float32


SHAPE = (200, 300)  # 300 inputs to each of 200 units


@pytest.mark.parametrize(
    ("name", "settings", "std"),
    [
        ("xavier_uniform", {}, (2 / 500) ** 0.5),
        ("xavier_normal", dict(gain=3.0), 3 * (2 / 500) ** 0.5),
        ("kaiming_uniform", {}, (2 / 300) ** 0.5),
        ("kaiming_uniform", dict(gain=1.0, mode="fan_out"), (1 / 200) ** 0.5),
        ("kaiming_normal", {}, (2 / 300) ** 0.5),
        ("kaiming_normal", dict(mode="fan_out"), (2 / 200) ** 0.5),
        ("uniform", {}, 0.3 / 3**0.5),
        ("normal", {}, 0.3),
    ],
)
def test_spread(name, settings, std):
    w = DRAWN[name](SHAPE, rng=0, dtype=np.float64, **settings)
    assert w.std() == pytest.approx(std, rel=0.02) and abs(w.mean()) < 0.02 * std
    bound = np.inf if "normal" in name else 3**0.5 * std
    assert abs(w).max() <= bound
    assert abs(w).max() > (2.5 * std if bound == np.inf else 0.999 * bound)


@pytest.mark.parametrize("shape", [(20, 30), (12, 8, 5), (6, 4, 3, 2)])
def test_bounds_are_torchs(shape):
    torch = pytest.importorskip("torch")
    import torch.nn.init as theirs

    for ours, other, settings in (
        (init.xavier_uniform, theirs.xavier_uniform_, {}),
        (init.kaiming_uniform, theirs.kaiming_uniform_, {"mode": "fan_in"}),
        (init.kaiming_uniform, theirs.kaiming_uniform_, {"mode": "fan_out"}),
    ):
        relu = {"nonlinearity": "relu"} if settings else {}
        a = max(abs(ours(shape, rng=seed, **settings)).max() for seed in range(40))
        b = max(float(other(torch.empty(shape), **settings, **relu).abs().max()) for _ in range(40))
        assert a == pytest.approx(b, rel=0.01)


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3)])
def test_orthogonal(shape):
    w = init.orthogonal(shape, gain=2.0, rng=0, dtype=np.float64)
    small = w @ w.T if shape[0] <= shape[1] else w.T @ w
    np.testing.assert_allclose(small, 4 * np.eye(min(shape)), atol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_given_spectral_radius(n, dtype):
    w = init.normal((n, n), rng=n, dtype=dtype)
    before = w.copy()
    for radius in (0.95, 1.25, 0.0):
        scaled = init.with_spectral_radius(w, radius)
        assert scaled.dtype == dtype and (w == before).all() and scaled is not w
        now = abs(np.linalg.eigvals(scaled.astype(float))).max()
        assert now == pytest.approx(radius, rel=1e-6 if dtype == np.float32 else 1e-12)


def test_a_sparse_matrix_keeps_its_zeros():
    rng = np.random.default_rng(1)
    w = init.normal((50, 50), rng=rng) * (rng.random((50, 50)) < 0.1)
    scaled = init.with_spectral_radius(w, 0.9)
    assert ((scaled == 0) == (w == 0)).all() and abs(np.linalg.eigvals(scaled)).max() == pytest.approx(0.9, rel=1e-5)


def test_a_matrix_without_cycles_is_refused():
    """Permuted triangular matrices: every eigenvalue is 0, and what is computed for one is rounding."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 10, 60):
        order = rng.permutation(n)
        w = np.triu(rng.standard_normal((n, n)), 1)[order][:, order]
        with pytest.raises(ValueError, match=r"weight: all of its eigenvalues are 0.*with more connections"):
            init.with_spectral_radius(w, 0.9)
    with pytest.raises(ValueError, match="weight: all of its eigenvalues are 0"):
        init.with_spectral_radius(np.zeros((2, 2)), 0.9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [2, 5, 30, 60])
def test_nor_does_it_help_to_turn_it(n, dtype):
    """Their computed eigenvalues are not small, but errors all the same."""
    for seed in range(5):
        q, u = init.orthogonal((n, n), rng=seed, dtype=np.float64), init.normal((n, n), rng=seed, dtype=np.float64)
        with pytest.raises(ValueError, match="weight: all of its eigenvalues are 0"):
            init.with_spectral_radius((q @ np.triu(u, 1) @ q.T).astype(dtype), 0.9)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_no_matrix_is_refused_because_its_eigenvalues_cancel(dtype):
    """Rings have eigenvalues all around a circle; a small weight has a small one."""
    tiny = np.array([[1e-4 if dtype == np.float16 else 1e-30]])
    for w in (*[np.roll(np.eye(n), 1, 0) for n in (3, 10, 100)], np.array([[0.9, 10.0], [0.0, 0.9]]), tiny):
        scaled = init.with_spectral_radius(w.astype(dtype), 0.5)
        assert abs(np.linalg.eigvals(scaled.astype(float))).max() == pytest.approx(0.5, rel=1e-3)


def test_a_given_largest_singular_value():
    for shape in ((4, 4), (3, 7)):
        w = init.with_spectral_norm(init.normal(shape, rng=0), 0.9)
        assert np.linalg.norm(w, 2) == pytest.approx(0.9, rel=1e-6) and w.dtype == np.float32
    assert init.with_spectral_norm(np.triu(np.ones((3, 3)), 1), 2.0).max() < 2  # nilpotent, but not 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init.xavier_uniform((3,)), r"shape: expected \(out, in, ...\), which has connections, got \(3,\)"),
        (lambda: init.kaiming_normal((3, 0)), r"shape: .* got \(3, 0\)"),
        (lambda: init.kaiming_normal((3, 2), mode="in"), "mode: expected 'fan_in' or 'fan_out', got 'in'"),
        (lambda: init.with_spectral_radius(np.ones((2, 3)), 1.0), r"weight: expected a square matrix, got \(2, 3\)"),
        (lambda: init.with_spectral_radius(np.ones((2, 2)), -1.0), "radius: expected a finite number, not below 0"),
        (lambda: init.with_spectral_radius(np.ones((2, 2)), np.inf), "radius: expected a finite number"),
        (lambda: init.with_spectral_radius(np.ones((2, 2), int), 1.0), r"weight: expected .* got int64 \(2, 2\)"),
        (lambda: init.with_spectral_radius(np.ones((0, 0)), 1.0), r"weight: expected a matrix .* got float64 \(0, 0\)"),
        (lambda: init.with_spectral_radius([[1.0]], 1.0), "weight: expected a matrix"),
        (lambda: init.with_spectral_radius(np.array([[np.nan]]), 1.0), "weight: expected finite numbers"),
        (lambda: init.with_spectral_norm(np.zeros((2, 3)), 1.0), "weight: it is 0"),
        (lambda: init.with_spectral_norm(np.ones((2, 3)), float("nan")), "norm: expected a finite number"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
