"""The tape: what is recorded and kept, how it is walked back, when it is freed, who may watch."""

import asyncio
import collections
import gc
import sys
import textwrap
import threading
import weakref

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.modes import Observer, switched
from tinygrad_rnn.tape import Leaf, Node, Output, reached


def leaf(*shape, dtype=np.float64, seed=0):
    return tg.tensor(np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(dtype), requires_grad=True)


def kept(y):
    """What the entry of a tensor keeps."""
    return tg.tape(y).kept(y.node)


def same(a, b):
    """Whether a tensor is exactly that array."""
    return a.shape == np.shape(b) and np.array_equal(a.data, b)


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# Law 1 and 3: rules, and what they ask for ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda g, y: g, "double: a rule takes g and any of ['factor', 'in_shape', 'out', 'x'], not ['g', 'y']"),
        (lambda g, X: g, "not ['g', 'X']"),
        (lambda gradient: gradient, "not ['gradient']"),
        (lambda x, g: g, "not ['x', 'g']"),
        (lambda: 0, "double: a rule takes g"),
        (lambda g, in_shapes: g, "not ['g', 'in_shapes']"),
    ],
)
def test_a_rule_that_asks_for_what_is_not_there_fails_when_registered(rule, words):
    @tg.primitive
    def double(x, /, factor=2):
        return x * factor

    with pytest.raises(TypeError) as error:
        double.vjp(rule)
    assert words in str(error.value)


def test_a_rule_of_several_outputs_cannot_ask_for_out():
    @tg.primitive(several=True)
    def halves(x, /):
        return x[:1], x[1:]

    with pytest.raises(TypeError, match="halves: a rule takes g and any of"):
        halves.vjp(lambda g, out: g)


def test_a_rule_may_ask_for_every_argument():
    @tg.primitive
    def scaled(x, /, factor, *, offset=1.0):
        return x * factor + offset

    seen = []
    scaled.vjp(
        lambda g, out, x, in_shape, factor, offset: seen.append((out, x, in_shape, factor, offset)) or g * factor
    )
    x = leaf(2)
    y = scaled(x, 3.0)
    y.backward(np.ones(2))
    ((out, kept_x, in_shape, factor, offset),) = seen
    assert np.array_equal(out, y.data)
    assert np.array_equal(kept_x, x.data)
    assert (in_shape, factor, offset) == ((2,), 3.0, 1.0)
    assert x.grad.tolist() == [3.0, 3.0]


def test_primitives_with_every_kind_of_parameters():
    @tg.primitive
    def f(a, b, *, power=1):  # no default: differentiable
        return a**power * b

    f.vjp(lambda g, a, b, power: g * b * power * a ** (power - 1), lambda g, a, power: g * a**power)
    a, b = leaf(2), leaf(2, seed=1)
    for power in (1, 3):
        tg.check_gradients(lambda a, b, p=power: f(a, b, power=p), a, b, order=2)
    assert f.op.inputs == ["a", "b"]

    @tg.primitive
    def total(*arrays, weight=1.0):
        return weight * sum(arrays[1:], start=arrays[0])

    total.vjp(lambda g, arrays, weight: [weight * g for _ in arrays])
    total(a, b, a, weight=0.5).backward(np.ones(2))
    assert a.grad.tolist() == [1.0, 1.0]
    assert b.grad.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda a, b: a + b, set()),
        (lambda a, b: a * b, {"a", "b"}),
        (lambda a, b: tg.tanh(a), {"out"}),
        (lambda a, b: tg.exp(a), {"out"}),
        (lambda a, b: a.reshape(3, 1), {"x.shape"}),
        (lambda a, b: -a, set()),
        (lambda a, b: tg.relu(a), {"out"}),
        (lambda a, b: tg.sigmoid(a), {"out"}),
        (lambda a, b: a * 2.0, {"b"}),  # the number, and not a, which only the gradient of the number would want
    ],
)
def test_the_tape_keeps_what_the_rules_name(make, names):
    assert set(kept(make(leaf(3), leaf(3)))) == names


def test_kept_arrays_are_not_copied():
    a, b = leaf(3), leaf(3)
    assert kept(a * b)["b"] is b._data
    y = tg.tanh(a)
    assert kept(y)["out"] is y._data


def test_only_what_a_wanted_gradient_needs_is_kept():
    """The product of a constant and a weight keeps the constant alone."""
    W, x = leaf(3), tg.tensor(np.ones(3))
    y = x * W
    values = [*kept(y).values()]
    assert len(values) == 1
    assert values[0] is x._data
    assert y.node.parents[0] is None


def test_bytes_are_counted_once():
    a = leaf(1000)
    y = a * a
    assert tg.tape(y).nbytes() == 8000
    assert tg.tape(y * a).nbytes() == 16000
    assert tg.tape(a + a).nbytes() == 0


# Law 2: arrays alone give arrays --------------------------------------------------------------------------------------


def test_arrays_give_arrays_and_nothing_is_recorded():
    x = np.ones((2, 3))
    for out in (tg.tanh(x), x @ x.T, tg.sum(x), tg.add(x, 1.0), *tg.unstack(x), tg.stack([x, x])):
        assert isinstance(out, (np.ndarray, np.generic))


def test_rules_run_on_bare_arrays_first_and_on_tensors_with_create_graph():
    @tg.primitive
    def cube(x):
        return x * x * x

    kinds = []

    @cube.vjp
    def cube(g, x):
        kinds.append((type(g), type(x)))
        return 3 * g * x * x

    x = leaf(2)
    tg.gradients(cube(x).sum(), x)
    dx = tg.gradients(cube(x).sum(), x, create_graph=True)
    assert kinds == [(np.ndarray, np.ndarray), (tg.Tensor, tg.Tensor)]
    assert np.allclose(tg.gradients(dx.sum(), x).data, 6 * x.data)


# Law 4: creation order ------------------------------------------------------------------------------------------------


def test_creation_order_is_a_topological_order():
    a, b = leaf(2, 2), leaf(2, 2)
    y = (a @ b + a).sum() * tg.stack(tg.unstack(b)).sum()
    entries = list(tg.tape(y))
    assert [e.position for e in entries] == sorted(e.position for e in entries)
    assert entries[-1] is y.node
    place = {e: i for i, e in enumerate(entries)}
    assert all(place[p] < place[e] for e in entries for p in e.parents if p is not None)
    assert {type(e) for e in entries} == {Node, Leaf, Output}


def test_an_entry_that_is_met_early_waits_for_all_of_its_gradients():
    """The diamond: 8 paths of different lengths lead from y to x."""
    x = tg.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(3):
        y = y + y * 1.0
    z = y + x  # the short way round, used last
    z.backward()
    assert x.grad.item() == 9.0


@pytest.mark.parametrize("uses", [1, 2, 5, 8, 100])
def test_wide_fan_out(uses):
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    h = x * 2.0
    sum((h * float(i) for i in range(uses)), start=h).sum().backward()
    assert x.grad.tolist() == [2.0 * (1 + sum(range(uses)))] * 2


def test_a_tensor_in_two_slots():
    x = leaf(3, 3)
    for f, right in [
        (lambda x: (x * x).sum(), 2 * x.data),
        (lambda x: (x @ x).sum(), x.data.sum(0)[:, None] + x.data.sum(1)[None]),
        (lambda x: (x - x).sum(), np.zeros((3, 3))),
        (lambda x: (x @ x.T).sum(), 2 * np.tile(x.data.sum(0), (3, 1))),
        (lambda x: tg.concatenate([x, x, x]).sum(), np.full((3, 3), 3.0)),
    ]:
        g = tg.gradients(f(x), x).data
        assert np.allclose(g, right)


# Law 5: the walker's housekeeping -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "other"),
    [((3,), (2, 3)), ((1, 3), (2, 3)), ((2, 1), (2, 3)), ((), (2, 3)), ((1, 1, 1), (2, 3)), ((4, 1, 3), (2, 1)),
     ((1,), (0,)), ((4, 1), (4, 0)), ((2, 1, 1), (1, 4, 0))],
)  # fmt: skip
def test_broadcasting_is_undone(shape, other):
    x, y = leaf(*shape), leaf(*other, seed=1)
    g = np.random.default_rng(2).uniform(size=np.broadcast_shapes(shape, other))
    for a, b in ((x, y), (y, x)):
        da, db = tg.gradients(a * b, [a, b], g)
        assert da.shape == a.shape
        assert db.shape == b.shape
        for d, other_one, own in ((da, b, a), (db, a, b)):
            full = g * other_one.data
            extra = full.ndim - own.ndim
            total = full.sum(tuple(range(extra)))
            total = total.sum(tuple(i for i, n in enumerate(own.shape) if n == 1), keepdims=True)
            assert np.allclose(d.data, total)


def test_gradients_have_the_dtype_of_their_tensors():
    x, y = leaf(3, dtype=np.float32), leaf(3)
    z = x * y  # float64
    assert z.dtype == np.float64
    dx, dy = tg.gradients(z.sum(), [x, y])
    assert (dx.dtype, dy.dtype) == (np.float32, np.float64)
    h = leaf(3, dtype=np.float16)
    (h * 2.0 + 1).sum().backward()
    assert h.grad.dtype == np.float16
    assert (h * 2.0).dtype == np.float16  # Python scalars are weak


def test_an_integer_result_has_no_entry():
    x = leaf(3)
    assert not x.astype(int).requires_grad
    assert tg.round(x).requires_grad


def test_a_rule_that_returns_the_wrong_shape_is_named():
    @tg.primitive
    def f(x):
        return x * 2

    f.vjp(lambda g: g.reshape(-1)[:1])
    with pytest.raises(
        ValueError, match=r"a rule returned a gradient of shape \(1,\) for an input of shape \(2, 3\)"
    ) as error:
        f(leaf(2, 3)).sum().backward()
    assert error.value.__notes__ == [
        "on the way back through f, whose output is float64 (2, 3) (a rule returns an array like its input)"
    ]


def test_an_error_in_a_rule_says_where():
    @tg.primitive
    def f(x):
        return x * 2

    f.vjp(lambda g, x: 1 / 0)
    with pytest.raises(ZeroDivisionError) as error:
        f(leaf(2)).sum().backward()
    assert "on the way back through f" in error.value.__notes__[0]


def test_several_outputs_and_those_that_nobody_used():
    x = leaf(3, 2)
    a, b, c = tg.unstack(x)
    (b * b).sum().backward(retain_graph=True)
    expected = np.zeros((3, 2))
    expected[1] = 2 * x.data[1]
    assert same(x.grad, expected)
    x.grad = None
    (c.sum() + (a * c).sum()).backward()
    assert same(x.grad, np.stack([c.data, np.zeros(2), 1 + a.data]))


def test_several_outputs_with_different_shapes_and_second_order():
    x = leaf(5)
    a, _ = tg.split(x, [2])
    y = (a**3).sum()
    (d,) = tg.gradients(y, [x], create_graph=True)
    assert same(d[2:], np.zeros(3))
    h = tg.gradients(d.sum(), x)
    assert np.allclose(h.data, np.concatenate([6 * x.data[:2], np.zeros(3)]))


def test_a_variadic_primitive_has_one_joint_rule():
    calls = []

    @tg.primitive
    def glue(*arrays, axis=0):
        return np.concatenate(arrays, axis)

    def rule(g, in_shapes, axis):
        calls.append(list(in_shapes))
        return tg.split(g, np.cumsum([shape[axis] for shape in in_shapes])[:-1].tolist(), axis)

    glue.vjp(rule)
    a, b, constant = leaf(2), leaf(3), np.ones(1)
    (glue(a, constant, b) * np.arange(6.0)).sum().backward()
    assert calls == [[(2,), (1,), (3,)]]
    assert a.grad.tolist() == [0.0, 1.0]
    assert b.grad.tolist() == [3.0, 4.0, 5.0]


def test_entries_are_freed_as_they_are_walked(no_collector):
    """When the rule of an entry runs, those after it are free already."""
    x = leaf(3)
    arrays = []

    class Watch(Observer):
        def before_rule(self, node, g):
            alive.append(sum(ref() is not None for ref in arrays))

    y, alive = x, []
    for _ in range(5):
        y = tg.tanh(y)
        arrays.append(weakref.ref(y._data))
    loss = y.sum()
    del y
    with switched(observer=Watch()):
        loss.backward()
    assert alive == [5, 5, 4, 3, 2, 1]
    assert all(ref() is None for ref in arrays)


def test_a_part_of_the_tape_can_be_walked_after_another_part_was_freed():
    x, w = leaf(2), leaf(2)
    h = x * 2.0
    y, z = (h * h).sum(), (w * 3.0).sum()
    y.backward()
    z.backward()
    assert w.grad.tolist() == [3.0, 3.0]
    assert tg.gradients(h.sum() * 1.0, h).tolist() == [1.0, 1.0]  # ends at h: what lies before h is not asked for
    with pytest.raises(RuntimeError, match="freed up to multiply"):
        h.sum().backward()


# Law 6: no cycles -----------------------------------------------------------------------------------------------------


def test_no_reference_cycles(no_collector):
    x, W = leaf(2, 3), leaf(3, 3)
    refs = []

    def graph():
        h = x
        for row in tg.unstack(tg.stack([x, x, x])):
            h = tg.tanh(h @ W + row)
            refs.extend((weakref.ref(h), weakref.ref(h.node), weakref.ref(h._data)))
        return h.sum()

    graph()  # never walked
    assert not any(ref() for ref in refs)
    graph().backward()
    assert not any(ref() for ref in refs)
    loss = graph()
    tg.gradients(loss, [x, W], retain_graph=True)
    assert any(ref() is not None for ref in refs[1::3])
    del loss
    assert not any(ref() for ref in refs)
    d = tg.gradients(graph(), [x, W], create_graph=True)
    tg.gradients(d[0].sum(), x, create_graph=True)
    assert any(ref() is not None for ref in refs)
    del d
    assert not any(ref() for ref in refs)


def test_an_error_in_a_walk_leaves_no_cycle(no_collector):
    @tg.primitive
    def broken(x):
        return x + 0

    broken.vjp(lambda g: 1 / 0)
    x = leaf(2)
    y = broken(tg.tanh(x)) * 2.0
    ref = weakref.ref(y.node)
    with pytest.raises(ZeroDivisionError):
        y.sum().backward()
    del y
    assert ref() is None
    assert x.grad is None


def test_tensors_and_entries_can_be_weakly_referenced():
    x = leaf(2)
    assert weakref.ref(x)() is x
    assert weakref.ref(x.node)() is x.node


# Law 10: linear time --------------------------------------------------------------------------------------------------


def calls_of(f):
    """How many functions are called, Python's and C's: work that is counted, not timed."""
    count = 0

    def tick(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(tick)
    try:
        f()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("unrolled", ["unstack", "index"])
def test_work_is_linear_in_time(unrolled):
    W = leaf(2, 2)

    def run(T):
        xs, h = leaf(T, 2), tg.tensor(np.zeros(2))
        for x in tg.unstack(xs) if unrolled == "unstack" else [xs[t] for t in range(T)]:
            h = tg.tanh(h @ W * 0.1 + x)
        h.sum().backward()

    run(3)
    one, two, four = (calls_of(lambda n=n: run(n)) for n in (50, 100, 200))
    assert four - two == pytest.approx(2 * (two - one), rel=0.01)


def test_taking_rows_by_unstack_makes_one_gradient_of_full_size():
    xs = leaf(200, 3)
    made = []

    class Watch(Observer):
        def after_rule(self, node, g, gradients):
            made.extend(g.size for g in gradients if g is not None)

    with switched(observer=Watch()):
        sum(tg.unstack(xs), start=tg.tensor(np.zeros(3))).sum().backward()
    assert sum(size == 600 for size in made) == 1


# backward and gradients -----------------------------------------------------------------------------------------------


def test_backward_accumulates():
    x = leaf(3)
    (x * 2.0).sum().backward()
    first = x.grad
    (x * 3.0).sum().backward()
    assert x.grad.tolist() == [5.0] * 3
    assert first.tolist() == [2.0] * 3  # a tensor is a value: what was handed out stays as it was
    x.grad = None
    (x * 1.0).sum().backward()
    assert x.grad.tolist() == [1.0] * 3


def test_gradients_neither_accumulates_nor_touches_grad():
    x = leaf(3)
    y = (x * x).sum()
    a = tg.gradients(y, x, retain_graph=True)
    b = tg.gradients(y, x)
    assert same(a, b.data)
    assert x.grad is None


def test_gradients_of_one_and_of_many():
    x, y = leaf(2), leaf(2)
    z = (x * y).sum()
    assert isinstance(tg.gradients(z, x, retain_graph=True), tg.Tensor)
    (alone,) = tg.gradients(z, (x,), retain_graph=True)
    assert same(alone, y.data)
    assert tg.gradients(z, [], retain_graph=True) == []
    twice = tg.gradients(z, [x, x, y])
    assert same(twice[0], y.data)
    assert same(twice[1], y.data)
    assert same(twice[2], x.data)


def test_gradients_are_zero_where_nothing_depends():
    x, other = leaf(2), leaf(3, dtype=np.float32)
    h = x * 2.0
    g = tg.gradients((x * x).sum(), [x, other, h])
    assert same(g[1], np.zeros(3))
    assert g[1].dtype == np.float32
    assert same(g[2], np.zeros(2))  # h was not used


def test_zeros_for_an_independent_input_with_nan():
    """The zero for what nothing depends on is a zero, whatever the values are."""
    x, other = leaf(2), tg.tensor([np.nan, np.inf], requires_grad=True)
    with np.errstate(all="ignore"):
        assert tg.gradients(x.sum(), other).tolist() == [0.0, 0.0]


def test_gradients_walks_nothing_that_leads_nowhere():
    x, W = leaf(2), leaf(2)
    walked = []

    class Watch(Observer):
        def before_rule(self, node, g):
            walked.append(node.op.name)

    h = tg.exp(tg.tanh(W)) * tg.sin(x)
    with switched(observer=Watch()):
        tg.gradients(h.sum(), x, retain_graph=True)
        assert walked == ["sum", "multiply", "sin"]
        walked.clear()
        tg.gradients(h.sum(), [h], retain_graph=True)
        assert walked == ["sum"]
    later = leaf(2)  # made after h: nothing lies between
    with switched(observer=Watch()):
        walked.clear()
        assert tg.gradients(h.sum(), later, retain_graph=True).tolist() == [0.0, 0.0]
    assert walked == []


def test_gradients_with_regard_to_what_was_computed():
    x = leaf(3)
    h = tg.tanh(x)
    y = (h * h).sum() + x.sum()
    dh, dx = tg.gradients(y, [h, x])
    assert np.allclose(dh.data, 2 * h.data)
    assert np.allclose(dx.data, 2 * h.data * (1 - h.data**2) + 1)  # passes through h, too


def test_gradients_with_regard_to_one_of_several_outputs():
    x = leaf(3, 2)
    a, b, c = tg.unstack(x)
    y = (a * b).sum()
    da, db, dc, dx = tg.gradients(y, [a, b, c, x])
    assert same(da, b.data)
    assert same(db, a.data)
    assert same(dc, np.zeros(2))
    assert same(dx, np.stack([b.data, a.data, np.zeros(2)]))
    p, q = tg.split(x, [1])
    assert same(tg.gradients((p * 3.0).sum() + q.sum(), p), np.full((1, 2), 3.0))


def test_gradient_of_a_tensor_with_regard_to_itself():
    x = tg.tensor(2.0, requires_grad=True)
    assert tg.gradients(x, x).item() == 1.0
    x.backward()
    assert x.grad.item() == 1.0
    y = x * x
    assert tg.gradients(y, y).item() == 1.0


def test_gradients_of_every_walk_share_no_memory():
    x, y = leaf(3), leaf(3)
    g = np.ones(3)
    z = x + y
    dx, dy = tg.gradients(z, [x, y], g, retain_graph=True)
    (z * 1.0).backward(g, retain_graph=True)
    arrays = [dx._data, dy._data, x.grad._data, y.grad._data, g, x._data, y._data]
    for i, a in enumerate(arrays):
        assert not any(np.shares_memory(a, b) for b in arrays[:i])


def test_no_gradient_is_modified_in_place_while_others_see_it():
    """Sums are accumulated in place, but only in arrays that the walker made."""
    x, y = leaf(3), leaf(3)
    s = x + y  # both rules pass g on, the same array
    t = (s + x) + (x + x) + s
    t.sum().backward()
    assert x.grad.tolist() == [5.0] * 3
    assert y.grad.tolist() == [2.0] * 3


def test_a_second_walk_is_refused_and_changes_nothing():
    x, w = leaf(2), leaf(2)
    h = tg.tanh(x)
    y = (h * w).sum()
    z = y + w.sum()
    y.backward()
    before = x.grad, w.grad
    for call in (y.backward, z.backward, lambda: tg.gradients(z, w), lambda: tg.gradients(y, x)):
        with pytest.raises(RuntimeError, match=r"walked and freed up to \w+: to walk it twice, pass retain_graph=True"):
            call()
    assert (x.grad, w.grad) == before
    assert z.node.parents != ()  # and nothing more was freed


def test_the_message_for_a_state_that_was_carried_over():
    W, h = leaf(2, 2), tg.tensor(np.ones(2))
    h = tg.tanh(h @ W)
    h.sum().backward()
    with pytest.raises(RuntimeError, match=r"where a state is carried over from an earlier walk, detach\(\) it"):
        tg.tanh(h @ W).sum().backward()
    tg.tanh(h.detach() @ W).sum().backward()


@pytest.mark.parametrize("retain", [True, False, None])
@pytest.mark.parametrize("create", [True, False])
def test_retain_graph_and_create_graph(retain, create):
    x = leaf(2)
    y = (x**3).sum()
    g = tg.gradients(y, x, create_graph=create, retain_graph=retain)
    assert g.requires_grad == create
    if retain or (create and retain is None):
        assert same(tg.gradients(y, x), g.data)
    else:
        with pytest.raises(RuntimeError, match="freed"):
            tg.gradients(y, x)
    x.grad = None
    y = (x**3).sum()
    y.backward(create_graph=create, retain_graph=retain)
    assert x.grad.requires_grad == create


def test_retained_walks_repeat_to_the_bit():
    x, W = leaf(4, 3), leaf(3, 3)
    y = tg.softmax(tg.tanh(x @ W) @ W, -1).std()
    first = tg.gradients(y, [x, W], retain_graph=True)
    for _ in range(3):
        for a, b in zip(first, tg.gradients(y, [x, W], retain_graph=True)):
            assert a.data.tobytes() == b.data.tobytes()


def test_create_graph_accumulates_into_grad_on_the_tape():
    x = tg.tensor(2.0, requires_grad=True)
    (x**3).backward(create_graph=True)
    (x**2).backward(create_graph=True)
    assert x.grad.item() == 12.0 + 4.0
    assert tg.gradients(x.grad, x).item() == 12.0 + 2.0


def test_create_graph_records_even_in_a_no_grad_block():
    x = tg.tensor(2.0, requires_grad=True)
    y = x**3
    with tg.no_grad():
        d = tg.gradients(y, x, create_graph=True)
        assert d.requires_grad
        assert not tg.is_recording()
    assert tg.gradients(d, x).item() == 12.0


def test_a_walk_inside_no_grad_works():
    x = tg.tensor(2.0, requires_grad=True)
    y = x**3
    with tg.no_grad():
        y.backward()
    assert x.grad.item() == 12.0


def test_the_cotangent():
    x = leaf(2, 3)
    y = x * 2.0
    g = np.arange(6.0).reshape(2, 3)
    for given in (g, tg.tensor(g)):
        assert same(tg.gradients(y, x, given, retain_graph=True), 2 * g)
    assert tg.gradients(x[:1, :1] * 3.0, x).data[0, 0] == 3.0  # any shape of one element needs no g
    weight = tg.tensor(g, requires_grad=True)  # the product with a cotangent that is differentiated by
    d = tg.gradients(y * x, x, weight, create_graph=True)
    assert np.allclose(tg.gradients(d.sum(), weight).data, 4 * x.data)


def test_scalars_of_numpy_are_cotangents_of_scalars():
    x = tg.tensor(2.0, requires_grad=True)
    assert tg.gradients(x * x, x, np.float64(3.0)).item() == 12.0
    assert tg.gradients(x * x, x, np.array(3.0)).item() == 12.0


# Any order ------------------------------------------------------------------------------------------------------------


def test_orders_one_to_six():
    x = tg.tensor(0.7, requires_grad=True)
    y, factor = x**6, 1
    for order in range(1, 7):
        y = tg.gradients(y, x, create_graph=True)
        factor *= 7 - order
        assert y.item() == pytest.approx(factor * 0.7 ** (6 - order))


def test_third_order_of_an_lstm_as_torch_has_it():
    """Three derivatives of a two-step LSTM that is written out in operations."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s) * 0.5 for s in [(2, 2, 3), (8, 3), (8, 2), (8,)]]
    us = [rng.normal(size=a.shape) for a in arrays]

    def loss(m, xs, W, U, b, unstack, split, t):
        h = c = m.zeros_like(xs[0][:, :2]) if m is torch else np.zeros((2, 2))
        for x in unstack(xs):
            i, f, g, o = split(x @ t(W) + h @ t(U) + b)
            c = m.sigmoid(f) * c + m.sigmoid(i) * m.tanh(g)
            h = m.sigmoid(o) * m.tanh(c)
        return (h * h).sum() + c.sum()

    ours = [tg.tensor(a, requires_grad=True) for a in arrays]
    y = loss(tg, *ours, tg.unstack, lambda z: tg.split(z, 4, axis=-1), lambda w: w.T)
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    z = loss(torch, *theirs, torch.unbind, lambda z: torch.chunk(z, 4, -1), lambda w: w.T)
    assert y.item() == pytest.approx(z.item(), rel=1e-13)
    for _ in range(3):
        d = tg.gradients(y, ours, create_graph=True)
        e = torch.autograd.grad(z, theirs, create_graph=True)
        for a, b in zip(d, e):
            assert np.allclose(a.data, b.detach().numpy(), rtol=1e-10, atol=1e-12)
        y = sum((a * u).sum() for a, u in zip(d, us))
        z = sum((b * torch.tensor(u)).sum() for b, u in zip(e, us))


# Modes ----------------------------------------------------------------------------------------------------------------


def test_modes_nest():
    x = tg.tensor(1.0, requires_grad=True)
    assert tg.is_recording()
    with tg.no_grad():
        assert not (x * 2).requires_grad
        with tg.enable_grad():
            assert (x * 2).requires_grad
            with tg.no_grad():
                assert not tg.is_recording()
            assert tg.is_recording()
        assert not tg.is_recording()
    assert tg.is_recording()


def test_modes_end_with_an_exception():
    with pytest.raises(ZeroDivisionError), tg.no_grad():
        1 / 0  # noqa: B018
    assert tg.is_recording()
    with tg.no_grad():
        with pytest.raises(ValueError, match="matmul"), tg.enable_grad():
            tg.matmul(np.ones(2), np.ones(3))
        assert not tg.is_recording()


def test_making_a_mode_changes_nothing():
    tg.no_grad()
    tg.enable_grad()
    tg.no_grad(lambda: None)
    assert tg.is_recording()


def test_a_mode_can_be_entered_again():
    mode = tg.no_grad()
    with mode:
        with mode:
            assert not tg.is_recording()
        assert not tg.is_recording()
    with mode:
        assert not tg.is_recording()
    assert tg.is_recording()


@pytest.mark.parametrize("decorator", [tg.no_grad, tg.no_grad()])
def test_modes_decorate_functions(decorator):
    @decorator
    def f(x, *, scale=1):
        """Its documentation."""
        return tg.is_recording(), x * scale

    assert f.__name__ == "f"
    assert f.__doc__ == "Its documentation."
    assert f(2, scale=3) == (False, 6)
    assert tg.is_recording()

    @tg.enable_grad
    def g():
        return tg.is_recording(), f(1)[0], tg.is_recording()

    assert g() == (True, False, True)
    with tg.no_grad():
        assert g() == (True, False, True)


def test_a_decorated_recursion_restores_the_mode():
    @tg.no_grad
    def f(n):
        if n:
            f(n - 1)
        assert not tg.is_recording()

    f(3)
    assert tg.is_recording()


def test_modes_decorate_generators():
    """The mode holds while the generator runs, and never while its user does."""
    log = []

    @tg.no_grad
    def f():
        try:
            got = yield tg.is_recording()
            log.append((got, tg.is_recording()))
            try:
                yield "second"
            except KeyError as error:
                log.append((str(error), tg.is_recording()))
            yield "third"
        finally:
            log.append(("closed", tg.is_recording()))
        return "done"

    g = f()
    assert next(g) is False
    assert tg.is_recording()
    assert g.send("sent") == "second"
    assert g.throw(KeyError("thrown")) == "third"
    assert tg.is_recording()
    with pytest.raises(StopIteration) as end:
        next(g)
    assert end.value.value == "done"
    assert log == [("sent", False), ("'thrown'", False), ("closed", False)]
    log.clear()
    g = f()
    next(g)
    g.close()
    assert log == [("closed", False)]
    g = f()
    next(g)
    with pytest.raises(OSError, match="out"):
        g.throw(OSError("out"))
    assert tg.is_recording()


def test_generators_are_consumed_in_any_mode():
    @tg.enable_grad
    def f(x):
        for _ in range(3):
            x = x * 2
            yield x

    with tg.no_grad():
        a, *_ = [y.requires_grad for y in f(tg.tensor(1.0, requires_grad=True))]
        assert a
        assert not tg.is_recording()

    @tg.no_grad
    def delegating():
        return (yield from f(tg.tensor(1.0, requires_grad=True)))

    assert [y.requires_grad for y in delegating()] == [True] * 3


def test_a_generator_that_holds_a_mode_open_does_not_leak_when_dropped():
    @tg.no_grad
    def f():
        yield 1
        yield 2

    for _ in f():
        break
    assert tg.is_recording()


def test_modes_decorate_coroutines():
    @tg.no_grad
    async def f():
        before = tg.is_recording()
        await asyncio.sleep(0)
        return before, tg.is_recording()

    async def main():
        together = await asyncio.gather(f(), watch(), f())
        return together, tg.is_recording()

    async def watch():
        seen = []
        for _ in range(3):
            seen.append(tg.is_recording())
            await asyncio.sleep(0)
        return seen

    together, after = asyncio.run(main())
    assert together == [(False, False), [True] * 3, (False, False)]
    assert after


def test_modes_of_tasks_do_not_mix():
    async def quiet():
        with tg.no_grad():
            await asyncio.sleep(0)
            return tg.is_recording()

    async def loud():
        await asyncio.sleep(0)
        return tg.is_recording()

    async def main():
        return await asyncio.gather(quiet(), loud(), quiet(), loud())

    assert asyncio.run(main()) == [False, True, False, True]


def test_async_generators_are_quiet_or_refused():
    async def ticks():
        yield tg.is_recording()

    try:
        decorated = tg.no_grad(ticks)
    except TypeError:
        return

    async def main():
        return [recording async for recording in decorated()]

    assert asyncio.run(main()) == [False]


def test_a_new_thread_records():
    seen = []
    with tg.no_grad():
        thread = threading.Thread(target=lambda: seen.append(tg.is_recording()))
        thread.start()
        thread.join()
        assert not tg.is_recording()
    assert seen == [True]


# Primitives by users --------------------------------------------------------------------------------------------------


def test_four_lines_make_a_primitive_of_every_order():
    @tg.primitive
    def cube(x):
        """The cube."""
        return x * x * x

    assert cube.vjp(lambda g, x: 3 * g * x * x) is cube
    tg.check_gradients(cube, leaf(2, 3), order=3)
    assert cube.__name__ == "cube"
    assert cube.__doc__ == "The cube."
    assert cube(np.array([2.0])).tolist() == [8.0]
    assert repr(cube(leaf())).endswith("from=cube)")


def test_primitives_by_users_take_their_forward_from_scipy_or_anywhere():
    """A forward of arrays alone, and a rule in the package's operations."""
    from math import erf, pi, sqrt

    @tg.primitive
    def erf_(x):
        return np.vectorize(erf)(x)

    erf_.vjp(lambda g, x: g * (2 / sqrt(pi)) * tg.exp(-x * x))
    tg.check_gradients(erf_, leaf(3), order=2)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_the_wrong_number_of_rules(n):
    @tg.primitive
    def f(a, b):
        return a * b

    with pytest.raises(TypeError, match=rf"f: expected 2 rules, for \['a', 'b'\]; got {n} \(None: no rule"):
        f.vjp(*[lambda g: g] * n)


def test_a_primitive_without_a_rule_works_until_a_gradient_is_wanted():
    @tg.primitive
    def f(a, b):
        return a * b

    assert f(np.ones(2), 2.0).tolist() == [2.0, 2.0]
    assert not f(tg.tensor([1.0]), 2.0).requires_grad
    with pytest.raises(TypeError, match=r"f: b requires a gradient, and there is no rule for it: .*f\.vjp\(\.\.\.\)"):
        f(1.0, leaf(2))
    f.vjp(lambda g, b: g * b, None)
    assert f(leaf(2), 1.0).requires_grad
    with pytest.raises(TypeError, match=r"f: b requires a gradient"):
        f(leaf(2), leaf(2))


@pytest.mark.parametrize("out", [[1.0, 2.0], 3.0, None, "text"])
@pytest.mark.parametrize("requires_grad", [True, False])
def test_a_forward_must_return_an_array(out, requires_grad):
    @tg.primitive
    def f(x):
        return out

    f.vjp(lambda g: g)
    with pytest.raises(TypeError, match=f"f: its forward must return an array, got {type(out).__name__}"):
        f(tg.tensor([1.0, 2.0], requires_grad=requires_grad))


def test_a_forward_may_return_its_input_or_a_view_of_it():
    @tg.primitive
    def same_array(x):
        return x

    @tg.primitive
    def tail(x):
        return x[1:]

    same_array.vjp(lambda g: g)
    tail.vjp(lambda g, in_shape: tg.pad(g, (1, 0)))
    x = leaf(3)
    y, z = same_array(x), tail(x)
    (y * y).sum().backward()
    assert same(x.grad, 2 * x.data)
    x.grad = None
    (z * z).sum().backward()
    assert same(x.grad, np.concatenate([[0], 2 * x.data[1:]]))
    x.data = np.zeros(3)  # a leaf gets a new array; what was computed from the old one stays
    assert z.data.all()
    tg.check_gradients(tail, leaf(3), order=2)


def test_a_forward_gets_arrays_and_errors_are_told_in_the_callers_words():
    @tg.primitive
    def f(x, /, options=None):
        assert type(x) is np.ndarray
        if options == "bad":
            raise ValueError("options are bad")
        raise KeyError("missing")

    f.vjp(lambda g: g)
    with pytest.raises(ValueError, match=r"f\(x: float64 \(2,\), options: 'bad'\): options are bad"):
        f(leaf(2), options="bad")
    with pytest.raises(KeyError) as error:
        f(leaf(2))
    assert error.value.__notes__ == ["in f(x: float64 (2,))"]


def test_rules_of_a_primitive_can_be_replaced():
    @tg.primitive
    def f(x):
        return x * 1.0

    f.vjp(lambda g: g)
    f.vjp(lambda g: 2 * g)  # rules are looked up when a call is made
    x = leaf(2)
    f(x).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


# Observers ------------------------------------------------------------------------------------------------------------


class Log(Observer):
    def __init__(self):
        self.events = []

    def call(self, compute, op, inputs, keywords):
        self.events.append(f"call {op.name}")
        out = compute(op, inputs, keywords)
        self.events.append(f"done {op.name}")
        return out

    def before_rule(self, node, g):
        self.events.append(f"before {node.op.name}")

    def after_rule(self, node, g, gradients):
        self.events.append(f"after {node.op.name} {[None if g is None else g.shape for g in gradients]}")


def test_an_observer_sees_calls_and_rules():
    x = leaf(2)
    with switched(observer=Log()) as log:
        y = tg.tanh(x) * np.ones(2)
        y.backward(np.ones(2))
    assert log.events == [
        "call tanh", "done tanh", "call multiply", "done multiply", "before multiply", "after multiply [(2,), None]",
        "before tanh", "after tanh [(2,)]",
    ]  # fmt: skip
    assert np.allclose(x.grad.data, 1 - np.tanh(x.data) ** 2)
    events = len(log.events)
    tg.tanh(x)
    assert len(log.events) == events


def test_an_observer_sees_what_is_not_recorded_and_inner_modes_keep_it():
    with switched(observer=Log()) as log:
        with tg.no_grad():
            tg.tanh(leaf(2))
            tg.unstack(np.ones((2, 2)))
            tg.stack([np.ones(2), leaf(2)])
        with switched(observer=Log()) as inner:
            tg.exp(leaf(2))
    assert log.events == ["call tanh", "done tanh", "call unstack", "done unstack", "call stack", "done stack"]
    assert inner.events == ["call exp", "done exp"]


def test_an_observer_may_put_something_else_in_place():
    class Half(Observer):
        def call(self, compute, op, inputs, keywords):
            return compute(op, inputs, keywords) * 0.5 if op.name == "exp" else compute(op, inputs, keywords)

    with switched(observer=Half()):
        assert tg.exp(tg.tensor([0.0])).tolist() == [0.5]


def test_results_are_the_same_under_an_observer():
    """The fast paths for one and two inputs, and the plain one."""
    rng = np.random.default_rng(0)
    for f, shapes in [
        (lambda a, b: a + b, [(2,), (2,)]), (lambda a, b: a * b, [(2, 1), (3,)]), (tg.matmul, [(2, 3), (3,)]),
        (lambda x: tg.sum(x, axis=0, keepdims=True), [(2, 3)]), (lambda x: tg.unstack(x, axis=-1)[1], [(2, 3)]),
        (lambda a, b: tg.where(np.array([True, False]), a, b), [(2,), (2,)]),
        (lambda a, b: tg.stack([a, b], axis=1), [(2,), (2,)]),
    ]:  # fmt: skip
        xs = [tg.tensor(rng.normal(size=s), requires_grad=True) for s in shapes]
        plain = f(*xs)
        with switched(observer=Observer()):
            watched = f(*xs)
        assert same(watched, plain.data)
        g = np.ones(plain.shape)
        for a, b in zip(tg.gradients(plain, xs, g), tg.gradients(watched, xs, g)):
            assert same(a, b.data)


# Printing -------------------------------------------------------------------------------------------------------------


def text(block):
    return textwrap.dedent(block).strip("\n")


def doubled():
    a = tg.tensor([1.0, 2.0], requires_grad=True)
    b = a + a
    return b + b


def small_rnn():
    W = tg.tensor(np.eye(2), requires_grad=True)
    h = tg.tensor([0.1, 0.2], requires_grad=True)
    for x in tg.unstack(tg.tensor(np.ones((2, 2)), requires_grad=True)):
        h = tg.tanh(h @ W + x)
    return h.sum()


def test_printing_a_tape():
    assert str(tg.tape(doubled())) == text("""
        %0  leaf         float64 (2,)
        %1  add(%0, %0)  float64 (2,)
        %2  add(%1, %1)  float64 (2,)
        3 entries keep 0 B
    """)
    assert str(tg.tape(small_rnn())) == text("""
        %0   leaf            float64 (2, 2)
        %1   leaf            float64 (2,)
        %2   leaf            float64 (2, 2)
        %3   unstack(%2)     2 outputs       keeps axis
        %4   %3[0]           float64 (2,)
        %5   %3[1]           float64 (2,)
        %6   matmul(%1, %0)  float64 (2,)    keeps b, a.shape, a, b.shape  48 B
        %7   add(%6, %4)     float64 (2,)
        %8   tanh(%7)        float64 (2,)    keeps out  16 B
        %9   matmul(%8, %0)  float64 (2,)    keeps b, a.shape, a, b.shape  48 B
        %10  add(%9, %5)     float64 (2,)
        %11  tanh(%10)       float64 (2,)    keeps out  16 B
        %12  sum(%11)        float64 ()      keeps x.shape
        13 entries keep 80 B
    """)


def test_a_constant_operand_is_a_dash_in_print():
    assert "multiply(_, %0)" in str(tg.tape(2.0 * leaf(2)))


def test_drawing_a_tape():
    assert tg.tape(doubled()).to_dot() == text(r"""
        digraph tape {
          rankdir=BT; node [shape=box, fontname=monospace];
          n0 [label="%0 leaf\nfloat64 (2,)", style=filled];
          n1 [label="%1 add\nfloat64 (2,)"];
          n0 -> n1;
          n0 -> n1;
          n2 [label="%2 add\nfloat64 (2,)"];
          n1 -> n2;
          n1 -> n2;
        }
    """)
    dot = tg.tape(small_rnn()).to_dot()
    assert r'n3 [label="%3 unstack\n2 outputs\nkeeps axis"];' in dot
    assert r'n4 [label="%4 %3[0]\nfloat64 (2,)"];' in dot
    assert r'n8 [label="%8 tanh\nfloat64 (2,)\nkeeps out  16 B"];' in dot
    edges = [line.strip(" ;") for line in dot.splitlines() if "->" in line]
    assert edges == ["n2 -> n3", "n3 -> n4", "n3 -> n5", "n1 -> n6", "n0 -> n6", "n6 -> n7", "n4 -> n7", "n7 -> n8",
                     "n8 -> n9", "n0 -> n9", "n9 -> n10", "n5 -> n10", "n10 -> n11", "n11 -> n12"]  # fmt: skip


def test_a_long_tape_is_elided_in_print():
    y = leaf(2)
    for _ in range(500):
        y = y + 1.0
    lines = str(tg.tape(y)).splitlines()
    assert len(lines) == 62
    assert lines[30] == "... 441 more"
    assert lines[31].startswith("%471  add(%470, _)")
    assert lines[-1] == "501 entries keep 0 B"


def test_looking_through_a_tape():
    x = leaf(2)
    y = tg.tanh(x) * x
    entries = tg.tape(y)
    assert len(entries) == 3
    assert entries[-1] is y.node
    assert [e.op.name for e in entries[1:]] == ["tanh", "multiply"]
    assert collections.Counter(type(e).__name__ for e in entries) == {"Leaf": 1, "Node": 2}
    assert repr(entries) == str(entries)
    assert reached(y.node) == entries.entries


def test_printing_does_not_touch_the_tape():
    y = small_rnn()
    str(tg.tape(y)), tg.tape(y).to_dot()
    y.backward()
