"""Anomaly mode names the first operation that goes wrong, where it was called, and what for; and nothing else."""

import gc
import re
import sys
import weakref

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import AnomalyError, MutationError, anomaly, label
from tinygrad_rnn.debug import checksum


def here(offset=0):
    """The line of the caller, as the errors have it."""
    return f"test_debug.py:{sys._getframe(1).f_lineno + offset}"


def raised(kind, call):
    with pytest.raises(kind) as error:
        call()
    return " ".join([str(error.value), *getattr(error.value, "__notes__", [])])


def leaf(*numbers):
    return tg.tensor(numbers, requires_grad=True, dtype=float)


# Forward


def test_the_first_operation_is_named():
    x = leaf(1.0, 0.0)
    with anomaly():
        message = raised(AnomalyError, lambda: tg.exp(tg.log(x)) * 2)
    assert message.startswith("log made -inf at [1], out of finite numbers (x = 0.0): log(x: float64 (2,)), called at ")
    assert message.endswith(here(-2))


def test_operands_and_arguments_are_shown():
    with anomaly():
        message = raised(AnomalyError, lambda: leaf(1.0, 2.0) / np.array([[1.0], [0.0]]))
        assert "divide made inf at [1, 0], out of finite numbers (a = 1.0, b = 0.0)" in message
        assert "divide(a: float64 (2,), b: float64 (2, 1))" in message
        message = raised(AnomalyError, lambda: leaf(1e200, 1.0) * 1e200)
        assert "multiply made inf at [0], out of finite numbers (a = 1e+200, b = 1e+200)" in message
        message = raised(AnomalyError, lambda: tg.prod(leaf(1e200, 1e200)))
        assert re.match(r"prod made inf, out of finite numbers: prod\(x: float64 \(2,\).*\), called at", message)
        message = raised(AnomalyError, lambda: tg.astype(leaf(1e200), np.float32))
        assert "astype made inf at [0], out of finite numbers (x = 1e+200): astype(x: float64 (1,), " in message
        message = raised(AnomalyError, lambda: tg.quotient(leaf(1.0, 2.0), np.array([4.0, 0.0])))
        assert "quotient made inf at [1], out of finite numbers (a = 2.0, b = 0.0): quotient(a: " in message


def test_infinities_that_were_put_in_are_let_through():
    @tg.primitive
    def shifted(x, *, by):
        return x + by

    shifted = shifted.vjp(lambda g: g)
    scores = leaf(1.0, 2.0, 3.0)
    with anomaly():
        assert shifted(scores, by=-np.inf)[0].item() == -np.inf
        mask = tg.tensor([0.0, -np.inf, 0.0])
        p = tg.softmax(scores + mask) + tg.softmax(tg.where(np.array([True, False, True]), scores, -np.inf))
        (p * p).sum().backward()
        assert tg.pad(scores, 1, constant_values=-np.inf)[0].item() == -np.inf
        assert tg.maximum(tg.tensor([-np.inf]), np.array([-np.inf])).item() == -np.inf
    assert np.isfinite(scores.grad.numpy()).all()


def test_constants_and_integers():
    with anomaly():
        raised(AnomalyError, lambda: tg.log(tg.tensor(0.0)))
        raised(AnomalyError, lambda: np.sqrt(tg.tensor([-1.0])))
        raised(AnomalyError, lambda: tg.no_grad(tg.log)(leaf(0.0)))
        assert tg.argmax(tg.tensor([1, 2])) == 1
        assert tg.tensor([1, 2]).sum().item() == 3
        a, b = tg.split(leaf(1.0, 2.0), 2)
        assert (a + b).item() == 3


def test_what_an_operation_does_inside_is_its_own_affair():
    @tg.primitive
    def softened(x):
        return np.where(tg.log(x) == -np.inf, 0.0, 1.0) * x

    softened.vjp(lambda g, x: np.where(tg.log(x) == -np.inf, 0.0, 1.0) * g)
    x = leaf(0.0, 2.0)
    with anomaly():
        softened(x).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0]


# Backward


@pytest.mark.parametrize("create_graph", [False, True])
def test_the_rule_is_named(create_graph):
    x = leaf(4.0, 0.0)
    with anomaly():
        y = tg.sqrt(x * 1.0)
        line = here(-1)
        total = (y * y + y).sum()
        message = raised(AnomalyError, lambda: total.backward(create_graph=create_graph))
    assert message.startswith("the rule of sqrt made inf at [1] of the gradient of x, out of a finite gradient: sqrt(")
    assert line in message


def test_the_rule_of_a_rule_is_named():
    x = leaf(0.0)
    with anomaly():
        (g,) = tg.gradients((x**1.5).sum(), [x], create_graph=True)
        line = here(-1)
        message = raised(AnomalyError, lambda: g.sum().backward())
    assert "of the gradient of a" in message or "of the gradient of x" in message
    assert "in a rule of power(a: float64 (1,), b: 1.5), called at" in message
    assert line in message


def test_one_of_several_inputs_is_named():
    wrong = tg.primitive(lambda *arrays: arrays[0] + arrays[1]).vjp(lambda g: (g, g * np.nan))
    x = leaf(1.0)
    with anomaly():
        message = raised(AnomalyError, lambda: wrong(x, x).sum().backward())
    assert "made nan at [0] of the gradient of arrays[1]" in message
    assert "(arrays: [float64 (1,), float64 (1,)])" in message


def test_several_outputs():
    @tg.primitive(several=True)
    def halves(x):
        return x * 1.0, np.log(x)

    halves = halves.vjp(lambda g: g[0] + g[1] / np.zeros(()))
    with anomaly():
        assert "halves made -inf at [0] of output 1, out" in raised(AnomalyError, lambda: halves(leaf(0.0)))
        _, b = halves(leaf(1.0))
        assert "rule of halves" in raised(AnomalyError, lambda: b.sum().backward())


def test_a_gradient_that_came_in_not_finite_is_let_through():
    x = leaf(1.0)
    with anomaly():
        (x * 2).backward(np.array([np.inf]))
    assert x.grad.item() == np.inf


def test_operations_from_before_the_block():
    y = tg.sqrt(leaf(0.0)).sum()
    with anomaly():
        assert "sqrt, called before anomaly() was entered" in raised(AnomalyError, y.backward)


def test_a_rule_that_fails_does_not_blind():
    broken = tg.primitive(lambda x: x * 2).vjp(lambda g, x: tg.matmul(g, np.ones(5)))
    with anomaly():
        raised(ValueError, lambda: broken(leaf(1.0)).sum().backward())
        raised(AnomalyError, lambda: tg.log(leaf(0.0)))


# Mutation


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_kept_array_that_was_changed(create_graph):
    x, y = leaf(1.0, 2.0, 3.0), leaf(1.0, 2.0, 3.0)
    with anomaly():
        z = (x * y).sum()
        line = here(-1)
        x._data[:2] = [2.0, 1.0]  # a sum of the bytes would not see it
        message = raised(MutationError, lambda: z.backward(create_graph=create_graph))
    assert message.startswith("a (float64 (3,)), which the tape keeps for the rules of multiply, was written into")
    assert line in message


def test_shared_memory_that_was_changed():
    array = np.ones(2)
    shared, x = tg.from_dlpack(array), leaf(1.0, 2.0)
    with anomaly():
        z = tg.concatenate([x, x * shared]).sum()
        array += 1
        assert "which the tape keeps for the rules of multiply" in raised(MutationError, z.backward)
        with anomaly(mutation=False):
            z = (x * shared).sum()
            array += 1
            z.backward()


def test_all_kinds_of_kept_values(xp):
    x = tg.tensor(xp.asarray(np.arange(6.0).reshape(2, 3).T), requires_grad=True)
    with anomaly():
        y = tg.concatenate([x[np.array([0, 1])], x.T[:, 1:].T, tg.where(x > 2, x, 0.0)])
        z = tg.max(tg.softmax(tg.einsum("ij,kj->ik", y, y)), axis=0).sum() + tg.prod(x[:0]) + x[1, 1]
        z.backward()
        w = tg.matmul(x.T, x)
        x._data[0, 0] += 1
        raised(MutationError, w.sum().backward)


def test_kept_values_of_several_and_in_tuples():
    @tg.primitive(several=True)
    def halves(x):
        return x * 2, x * x

    halves = halves.vjp(lambda g, x: 2 * g[0] + 2 * x * g[1])

    @tg.primitive
    def product(*arrays):
        return arrays[0] * arrays[1]

    product = product.vjp(lambda g, arrays: (g * arrays[1], g * arrays[0]))
    x, y = leaf(1.0, 2.0), tg.tensor([1.0, 2.0])
    with anomaly():
        z = product(x, y).sum()
        y._data[0] = 5
        assert "rules of product" in raised(MutationError, z.backward)
        z = halves(x)[1].sum()
        x._data[0] = 5
        assert "rules of halves" in raised(MutationError, z.backward)


def test_checksums(xp):
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[2.0, 1.0], [3.0, 4.0]])
    assert checksum(xp.asarray(a)) == checksum(xp.asarray(a.copy())) != checksum(xp.asarray(b))
    assert checksum(xp.asarray(a).T) != checksum(xp.asarray(a))
    assert checksum(xp.asarray(a[:0])) == checksum(xp.asarray(b[:0]))
    assert checksum(xp.asarray(np.array(1))) != checksum(xp.asarray(np.array(2)))


def test_a_rule_that_writes_into_its_gradient():
    def in_place(g):
        g *= 2
        return g

    double = tg.primitive(lambda x: 2 * x).vjp(in_place)
    x = leaf(1.0, 2.0)
    with anomaly():
        y = double(x)
        message = raised(MutationError, lambda: y.backward(np.ones(2)))
        assert message.startswith("a rule of <lambda> wrote into g (float64 (2,)), which others may hold: let it")
        assert here(-3) in message
        y = double(x * 1.0).sum()  # the gradient of a sum is a view that cannot be written into, anyway
        assert "read-only a rule must not write into g: others may hold it" in raised(ValueError, y.backward)
    with anomaly(mutation=False):
        double(x).backward(np.ones(2))
    assert x.grad.tolist() == [2.0, 2.0]


# Where a NaN came from

NAN = float("nan")


def data():
    array = np.ones((3, 2))
    array[0, 1] = NAN
    return array


def test_a_nan_in_the_data_is_found_by_what_it_does_to_gradients():
    w = tg.tensor(np.ones((2, 2)), requires_grad=True)
    with anomaly():
        y = tg.tanh(tg.matmul(data(), w))
        line = here(-1)
        message = raised(AnomalyError, lambda: tg.square(y).mean().backward())
    assert message.startswith(
        "the rule of square made nan at [0, 0] of the gradient of x, out of a finite gradient; its x was nan at [0, 0] "
        "already (the first was a, nan at [0, 1], of matmul(a: float64 (3, 2), b: float64 (2, 2)), called at "
    )
    assert line in message


def test_the_operation_that_it_came_in_with_needs_no_other():
    w = leaf(1.0, 2.0)
    with anomaly():
        y = w * np.array([1.0, NAN])
        message = raised(AnomalyError, y.sum().backward)
        assert "of the gradient of a, out of a finite gradient; its b was nan at [1] already: multiply(a" in message
        message = raised(AnomalyError, tg.concatenate([w, leaf(NAN)]).prod().backward)
        assert "(the first was arrays[1], nan at [0], of concatenate(" in message
        message = raised(AnomalyError, tg.square(tg.unstack(w * np.array([1.0, NAN]))[1]).backward)
        assert "; its x was nan already (the first was b, nan at [1], of multiply(" in message
    y = tg.square(leaf(1.0, NAN)).sum()
    with anomaly():
        assert "; its x was nan at [1] already: square, called before" in raised(AnomalyError, y.backward)


def test_a_nan_that_touches_no_gradient_is_no_error():
    w = tg.tensor(np.ones((2, 2)), requires_grad=True)
    with anomaly():
        y = tg.matmul(tg.where(np.isnan(data()), 0.0, data()), w)
        z = tg.where(np.isnan(data()), 0.0, w.sum() * data())
        (y.sum() + z.sum().detach()).backward()
        assert np.isnan((w.sum() * data()).numpy()).any()
    assert np.isfinite(w.grad.numpy()).all()


def series():
    xs = np.zeros((6, 2, 3), np.float32)
    xs[3, 0, 1] = NAN
    return xs


@pytest.mark.parametrize("reverse", [False, True])
def test_a_nan_in_a_series(reverse):
    cell, xs = tg.nn.GRUCell(3, 4, rng=0), series()
    message = "xs is nan at [3, 0, 1]: it came in with the data, and has made the state of GRUCell nan in step 3"
    with anomaly():
        assert raised(AnomalyError, lambda: tg.scan(cell, xs, reverse=reverse)).startswith(f"{message}: replace it")
        assert raised(AnomalyError, lambda: tg.no_grad(tg.scan)(cell, tg.tensor(xs))).startswith(message)
        layers = tg.nn.LSTM(3, 4, 2, rng=0)
        assert "the state of LSTMCell nan in step 3, in layer 0 forward: " in raised(AnomalyError, lambda: layers(xs))
        computed = tg.tensor(xs, requires_grad=True) * 1
        assert "[3, 0, 1]: it was there before the scan" in raised(AnomalyError, lambda: tg.scan(cell, computed))
    with anomaly(nonfinite=False):
        assert np.isnan(tg.scan(cell, xs, reverse=reverse)[0].numpy()[3, 0]).all()


def test_a_nan_in_a_series_that_is_left_out_or_replaced():
    cell, xs = tg.nn.GRUCell(3, 4, rng=0), series()

    def filled(x, h):
        y, h = cell.step(tg.where(np.isnan(x), np.float32(0), x), h)
        return tg.concatenate([y, x], axis=-1), h  # what only the output has does not spread

    with anomaly():
        for run in (
            lambda: tg.scan(cell, xs, lengths=[3, 6])[0],
            lambda: tg.scan(cell, xs, mask=~np.isnan(xs).any(axis=-1))[0],
            lambda: tg.scan(filled, xs, tg.tensor(np.zeros((2, 4), np.float32)))[0][..., :4],
        ):
            ys = run()
            assert np.isfinite(ys.numpy()).all()
            ys.sum().backward()
    assert np.isfinite(cell.weight_ih.grad.numpy()).all()


# Options, labels, modes


def test_each_half_can_be_switched_off():
    x = leaf(0.0, 1.0)
    with anomaly(nonfinite=False), np.errstate(all="ignore"):
        y = tg.sqrt(x) + tg.log(x)
        y.sum().backward()
        z = (x * x).sum()
        x._data[0] = 5
        raised(MutationError, z.backward)


def test_labels():
    x = leaf(0.0)

    def model():
        for t in range(3):
            with label("step", t, "of scan(LSTMCell)"), label("layer 1"):
                y = tg.log(x) if t == 2 else x
        return y

    with anomaly():
        assert "called in step 2 of scan(LSTMCell), in layer 1, at " in raised(AnomalyError, model)
        assert "called at " in raised(AnomalyError, lambda: tg.log(x))  # and gone, after an error
        with label("the encoder"):
            with label("inside"):
                pass
            y = tg.sqrt(x).sum()
        assert "called in the encoder, at " in raised(AnomalyError, y.backward)


def test_as_a_decorator_and_inside_itself():
    @anomaly
    def f(x, n=2):
        return tg.log(x) if n == 0 else f(x, n - 1)

    raised(AnomalyError, lambda: f(leaf(0.0)))
    with np.errstate(all="ignore"):
        tg.log(leaf(0.0))

    @anomaly(nonfinite=False)
    def g(x):
        with np.errstate(all="ignore"):
            return tg.log(x)

    assert g(leaf(0.0)).item() == -np.inf


def test_numpys_warnings_are_as_before():
    before = np.geterr()
    with anomaly():
        assert np.geterr()["divide"] == "ignore"
        with anomaly():
            pass
        assert np.geterr()["divide"] == "ignore"
    assert np.geterr() == before


def test_with_transforms():
    with anomaly():
        assert "the rule of sqrt made inf" in raised(AnomalyError, lambda: tg.grad(tg.sqrt)(0.0))
        assert tg.grad(tg.grad(tg.tanh))(0.5).item() == pytest.approx(-2 * np.tanh(0.5) * (1 - np.tanh(0.5) ** 2))
        tg.check_gradients(tg.tanh, np.ones(2), order=2)


def test_nothing_is_kept_alive():
    gc.disable()
    try:
        with anomaly() as observer:
            y = tg.exp(leaf(1.0))
            node = weakref.ref(y.node)
            assert len(observer.calls) == 1
            del y
            assert node() is None
            assert len(observer.calls) == len(observer.checksums) == 0
    finally:
        gc.enable()
