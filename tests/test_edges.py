"""The edges of the engine: what a careful reader found that could go wrong, one test each."""

import contextlib
import functools
import os
import re
import subprocess
import sys
import types

import fakecupy
import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import ops


def leaf(x):
    return tg.tensor(x, requires_grad=True)


@pytest.mark.parametrize("name", ["exp", "tanh", "sqrt", "negative"])
def test_an_operation_of_one_argument_takes_no_other(name):
    """A ufunc would take an array to write into, or a mask that leaves elements unset."""
    f, b, W = getattr(tg, name), np.zeros(2), leaf([1.0, 1.0])
    with tg.no_grad():
        for call in (lambda: f(np.ones(2), b), lambda: f(tg.tensor([1.0, 1.0]), W), lambda: f(W, b)):
            with pytest.raises(TypeError, match=f"{name}: takes x alone"):
                call()
    for x in (tg.tensor([1.0, 1.0]), W):
        with pytest.raises(TypeError, match=f"{name}: takes x alone, got also .'where'"):
            getattr(np, name)(x, where=np.array([True, False]))
    assert b.tolist() == [0.0, 0.0] and W.tolist() == [1.0, 1.0]


def test_a_joint_rule_must_return_a_gradient_for_each_input():
    @tg.primitive
    def total(*arrays):
        return sum(arrays)

    total.vjp(lambda g: [g])
    a, b = leaf([1.0]), leaf([2.0])
    with pytest.raises(ValueError, match="a joint rule returned 1 gradients for 2 inputs"):
        total(a, b).backward()
    assert a.grad is None and b.grad is None


def test_a_joint_rule_that_keeps_the_inputs_to_the_second_order():  # * rules.py: placed, of a tuple
    @tg.primitive
    def product(*arrays):
        return arrays[0] * arrays[1]

    product.vjp(lambda g, arrays: [g * arrays[1], g * arrays[0]])
    tg.check_gradients(product, np.array([1.0, 2.0]), np.array([3.0, 4.0]), order=3)


def test_any_name_will_do_for_an_argument_but_those_of_rules():
    @tg.primitive
    def dropped(x, /, p=0.5):
        return x * p

    dropped.vjp(lambda g, p: g * p)
    x = leaf(2.0)
    assert tg.gradients(dropped(x, 0.25), x).item() == 0.25
    with pytest.raises(TypeError, match="f: an argument cannot be called 'out'"):

        @tg.primitive
        def f(x, /, out=None):
            return x


def test_defaults_are_those_of_the_signature():
    def decorated(f):
        return functools.wraps(f)(lambda *args, **keywords: f(*args, **keywords))

    @tg.primitive
    @decorated
    def scaled(x, /, by=3.0, *, plus=1.0):
        return x * by + plus

    scaled.vjp(lambda g, by: g * by)
    x = leaf(2.0)
    assert tg.gradients(scaled(x), x).item() == 3.0


def test_inputs_are_arrays_alone_or_named():
    for f in (lambda a, *rest: a, lambda a, /, *rest: a, lambda a=1.0, b=2.0: a):
        with pytest.raises(TypeError, match=r"expected inputs \(x, /, ...\) or \(a, b\), or \*arrays and no other"):
            tg.primitive(f)


def test_a_kind_is_one_that_there_is():
    f = tg.primitive(kind="elementwise")(lambda x: x * 2.0)
    assert (f.op.kind, f.op.ufunc) == ("elementwise", None)
    expected = "double: kind: expected one of None, 'elementwise', 'view', 'reduction', 'product', got 'pointwise'"
    with pytest.raises(TypeError, match=f"^{re.escape(expected)}$"):

        @tg.primitive(kind="pointwise")
        def double(x):
            return x * 2.0


def test_of_several_outputs_the_integers_have_no_entry():
    @tg.primitive(several=True)
    def sort(x, /):
        order = np.argsort(x)
        return x[order], order

    sort.vjp(lambda g, x: ops.indexing.put(g[0], np.argsort(getattr(x, "_data", x)), x.shape))
    x = leaf([3.0, 1.0, 2.0])
    values, order = sort(x)
    assert values.requires_grad and not order.requires_grad
    assert x[order].tolist() == [1.0, 2.0, 3.0]
    with tg.anomaly():
        values, _ = sort(x)
        (values * np.arange(3.0)).sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 1.0]


def test_several_outputs_must_be_a_tuple_when_recorded_too():  # * recording.py: note_several
    @tg.primitive(several=True)
    def f(x, /):
        return [x, x]

    f.vjp(lambda g: g[0])
    with pytest.raises(TypeError, match="f: its forward must return a tuple of arrays, got list"):
        f(leaf(1.0))


def test_gradients_are_arrays_and_share_nothing():
    x = leaf(2.0)
    for _ in range(2):
        (x * x).backward()
    assert type(x.grad.data) is np.ndarray
    y = leaf([1.0, 2.0])
    loss = (y * y).sum() + (y * 3.0).sum()
    a, b = tg.gradients(loss, [y, y])
    assert not np.shares_memory(a._data, b._data)
    a, b, g = leaf([1.0]), leaf([2.0]), tg.tensor([1.0])
    (a + b).backward(g, create_graph=True)
    a.grad.data = [0.5]  # a constant: it may be given new data
    assert (b.grad.item(), g.item()) == (1.0, 1.0)


def test_recorded_gradients_accumulate_in_a_no_grad_block():
    x = leaf(2.0)
    y, z = x**3, x**2
    with tg.no_grad():
        y.backward(create_graph=True)
        z.backward(create_graph=True)
    assert tg.gradients(x.grad, x).item() == 12.0 + 2.0


def test_a_gradient_with_recording_must_be_let_go_of():
    """Leaf -> gradient -> tape -> leaf."""
    import gc
    import weakref

    gc.collect()
    gc.disable()
    try:
        x = leaf([1.0, 2.0])
        (x**3).sum().backward(create_graph=True)
        node = weakref.ref(x.node)
        x.grad = None
        del x
        assert node() is None
    finally:
        gc.enable()


def test_the_check_of_gradients_is_not_blinded_by_large_values():
    @tg.primitive
    def off(x):
        return x + 1e6

    off.vjp(lambda g: g * 1.0003)
    for seed in range(20):
        with pytest.raises(AssertionError):
            tg.check_gradients(off, np.array([1.0]), seed=seed)


def test_devices_are_named_whatever_meets():
    with fakecupy.installed() as cupy:
        g, c = leaf(cupy.asarray(np.ones(3))), tg.tensor(2.0)
        for f in (
            lambda: g * c,
            lambda: g > c,
            lambda: g == np.ones(3),
            lambda: tg.stack([g.sum(), c]),
            lambda: g.at[0].set(c),
        ):
            with pytest.raises(tg.DeviceError, match=r"'cuda:0' and .* on 'cpu'"):
                f()
        with pytest.raises(ValueError, match=r"g: expected float64 .* on cuda:0"):
            tg.vjp(lambda x: x * 2.0, cupy.asarray(np.ones(2)))[1](np.ones(2))
        with pytest.raises(ValueError, match="grad: expected None"):
            leaf(np.ones(3)).grad = tg.tensor(cupy.asarray(np.ones(3)))
        with pytest.raises(TypeError):
            range(tg.tensor(cupy.asarray(np.array(2))))
        with pytest.raises(TypeError, match="repeat: repeats: expected integers on the host"):  # * shape.py
            tg.repeat(g, cupy.asarray(np.array([1, 2, 3])))
        assert g.at[cupy.asarray(np.array([0, 2]))].set(cupy.asarray(np.array([5.0, 6.0]))).tolist() == [5, 1, 6]  # *


def test_a_cupy_that_is_being_imported_does_no_harm(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    assert (tg.tensor([1.0]) * 2).item() == 2.0


def test_a_mode_that_ends_before_one_inside_it():
    def watched():
        with tg.anomaly():
            yield

    before = np.geterr()
    generator = watched()
    next(generator)
    with tg.no_grad():
        generator.close()
    assert tg.is_recording() and np.geterr() == before


def test_slopes_near_the_edges():
    x = np.array([1 - 1e-10, -1 + 1e-13])
    for f, sign in ((tg.arcsin, 1), (tg.arccos, -1)):
        slopes = tg.grad(lambda x, f=f: f(x).sum())(x)
        assert np.allclose(slopes.data, sign / np.sqrt((1 - x) * (1 + x)), rtol=1e-14, atol=0)
    for r in (1e-200, 1e200):
        assert tg.grad(lambda y, r=r: tg.arctan2(y, r))(r).item() == pytest.approx(0.5 / r, rel=1e-12)
    assert tg.quotient(np.array([1, 2]), 0.5).tolist() == [2.0, 4.0]


@pytest.mark.parametrize(  # *
    ("call", "error", "words"),
    [
        (lambda: tg.tensordot(np.ones(2), np.ones(2), 2), ValueError, "expected no more than both, got 2"),
        (lambda: tg.einsum("...i->i", np.ones((2, 3))), ValueError, "the axes in '...' are lost"),
        (lambda: tg.stack(1.0), TypeError, "stack: expected a sequence of arrays and an axis"),
        (lambda: tg.concatenate(np.ones(2), np.ones(2)), TypeError, "concatenate: expected a sequence"),
    ],
)
def test_rows_for_the_table_of_errors(call, error, words):
    with pytest.raises(error, match=words.replace("...", r"\.\.\.")):
        call()


def test_a_mode_that_ends_within_another_one_leaves_that_as_it_is():
    """A generator holds a no_grad block open; it is closed inside of an anomaly block, and the other way round."""

    def silent():
        with tg.no_grad():
            yield

    before, generator = np.geterr(), silent()
    next(generator)
    with tg.anomaly():
        assert not tg.is_recording()
        generator.close()
        assert tg.is_recording()
        with pytest.raises(tg.AnomalyError):
            tg.log(leaf(-1.0))
    assert np.geterr() == before
    mode = tg.no_grad()
    mode.__exit__()  # never entered: there is nothing to leave
    assert tg.is_recording()


@pytest.mark.parametrize("name", ["+=", "-=", "*=", "/=", "//=", "%=", "**=", "@="])
def test_a_parameter_is_not_left_behind_in_silence(name):
    p = leaf([1.0, 2.0])
    with tg.no_grad(), pytest.raises(TypeError, match=r"would make a new tensor, and leave this leaf as it is"):
        exec(f"p {name} p")
    total = leaf(0.0)
    total += p.sum()  # where it is recorded, it is an operation like any other
    assert total.node.op.name == "add"
    with tg.no_grad():
        x = tg.tensor(1.0)
        x += 1.0
        assert x.item() == 2.0


def test_formats_and_membership():
    x = leaf([1.0, 2.0])
    assert f"{x.sum():.2f} {x}" == f"3.00 {x!r}"
    assert 2.0 in x and 3.0 not in x and np.array([1.0, 2.0]) in x
    assert round(x * 1.26, 1).tolist() == [1.3, 2.5]


def test_products_of_lists():
    assert tg.matmul([[1.0, 2.0]], [[3.0], [4.0]]).tolist() == [[11.0]]
    assert (leaf([[1.0, 2.0]]) @ [[3.0], [4.0]]).tolist() == [[11.0]]


@pytest.mark.parametrize("other", [np.ma.masked_array([1.0], [True]), object()])
def test_what_has_its_own_arithmetic_is_refused(other):
    with pytest.raises(TypeError, match=r"multiply.*expected arrays, tensors or numbers, got"):
        leaf([1.0]) * other
    if not isinstance(other, np.ndarray):
        with pytest.raises(TypeError, match=r"add.*expected arrays, tensors or numbers, got"):
            other + leaf([1.0])


@pytest.mark.parametrize("mode", [contextlib.nullcontext, tg.no_grad, tg.anomaly])
@pytest.mark.parametrize(
    "operation",
    [
        tg.add,
        tg.matmul,
        lambda x, y: tg.where(x > 0, x, y),
        lambda x, y: tg.stack([x, y]),
        lambda x, y: x.at[:].set(y),
        tg.clip,
        lambda x, y: x.clip(max=y),
        lambda x, y: np.clip(x, -1, y),
    ],
    ids=["add", "matmul", "where", "stack", "at.set", "clip", "x.clip", "np.clip"],
)
def test_it_is_refused_in_every_form_of_a_call_and_in_every_mode(operation, mode):
    other = np.ma.masked_array([1.0, 2.0], [True, False])
    with mode(), pytest.raises(TypeError, match="arrays, tensors or numbers, got MaskedArray: make a tensor of it"):
        operation(leaf([1.0, 2.0]), other)


def test_a_linear_layer_says_what_it_expects():
    layer = tg.nn.Linear(3, 2, rng=0)
    with pytest.raises(tg.ShapeError, match=r"Linear: x: expected 3 features on its last axis, got float32 \(5, 2\)"):
        layer(np.ones((5, 2), np.float32))
    with pytest.raises(TypeError, match=r"Linear: x: expected float32, as the weights are, got float64 \(5, 3\)"):
        layer(np.ones((5, 3)))


PROGRAM = """
import hashlib
import numpy as np
import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim
sha = hashlib.sha256()
for make in (nn.RNNCell, nn.GRUCell, nn.LSTMCell, lambda *a, rng: nn.Residual(nn.LSTMCell(*a, rng=rng))):
    rng = np.random.default_rng(0)
    cell = make(4, 4, rng=rng)
    optimizer = optim.Adam(cell.parameters(), lr=1e-2)
    for step in range(50):
        ys, _ = tg.scan(cell, rng.standard_normal((8, 3, 4)).astype(np.float32))
        loss = nn.mse(ys, np.zeros(ys.shape, np.float32))
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(cell.parameters(), 0.1)
        optimizer.step()
        sha.update(loss.data.tobytes())
    for value in cell.state_dict().values():
        sha.update(value.tobytes())
print(sha.hexdigest())
"""


def test_the_same_program_gives_the_same_bits():
    """In two processes, whose hashes of strings differ: every loss and every weight."""
    digests = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_settings_from_numpy_do_not_widen_parameters():
    wide = np.float64(0.1)
    for make in (lambda p: tg.optim.SGD(p, lr=wide, momentum=wide), lambda p: tg.optim.Adam(p, lr=wide, eps=wide)):
        p = tg.tensor(np.ones(2, np.float32), requires_grad=True)
        optimizer = make([p])
        for _ in range(2):
            p.grad = tg.tensor(np.ones(2, np.float32))
            optimizer.step()
        assert p.dtype == np.float32
    layer = tg.nn.LayerNorm(3, eps=wide)
    assert layer(np.ones((2, 3), np.float32)).dtype == np.float32


def test_a_network_is_no_cell():
    net, xs = tg.nn.RNN(3, 4, rng=0), np.ones((5, 2, 3), np.float32)
    for run in (tg.scan, tg.bptt.checkpointed):
        with pytest.raises(
            TypeError, match=r"cell: expected a Cell, or a function step\(x, state\), got RNN, a module"
        ):
            run(net, xs)
        with pytest.raises(TypeError, match="got RNN, a module"):
            run(net, xs, np.zeros((1, 4), np.float32))


def test_checkpoints_notice_that_training_ended():
    cell = tg.nn.Zoneout(tg.nn.LSTMCell(3, 4, rng=0), 0.5, rng=0)
    ys, _ = tg.bptt.checkpointed(cell, np.ones((9, 2, 3), np.float32))
    cell.eval()
    with pytest.raises(RuntimeError, match=r"train\(\) or eval\(\) was called between"):
        ys.sum().backward()


def test_wrappers_leave_a_clock_alone():
    xs = np.ones((6, 2, 3), np.float32)
    for wrap in (lambda c: tg.nn.Zoneout(c, 0.9, rng=0), lambda c: tg.nn.RecurrentDropout(c, 0.9, rng=0)):
        _, (_, clock) = tg.scan(wrap(tg.nn.ClockworkCell(3, 4, (1, 4), rng=0)), xs)
        assert clock.tolist() == [[2], [2]]


def test_a_step_that_would_spread_nan_can_be_skipped():
    p, q = leaf([1.0]), leaf([2.0])
    optimizer = tg.optim.SGD([p, q], lr=1.0)
    p.grad, q.grad = tg.tensor([1.0]), tg.tensor([np.nan])
    optimizer.step(on_nonfinite="skip")
    assert (p.item(), q.item()) == (1.0, 2.0)
    q.grad = tg.tensor([1.0])
    optimizer.step(on_nonfinite="skip")
    assert (p.item(), q.item()) == (0.0, 1.0)


def test_sizes_that_make_no_sense():
    with pytest.raises(TypeError, match="GRU: proj_size: only an LSTM has a projection"):
        tg.nn.GRU(3, 4, proj_size=2)
    with pytest.raises(ValueError, match="expected 3 features on the last axis") as error:
        tg.scan(tg.nn.GRUCell(3, 4), np.ones((7, 3, 2), np.float32))
    assert "another axis has that length" in error.value.__notes__[0]
