"""The stand-in for CuPy: what it must refuse, what it must allow, and that it counts what comes to the host."""

import copy
import sys

import cupy_names
import fakecupy
import numpy as np
import pytest
from fakecupy import cupy as cp


@pytest.fixture
def a():
    return cp.asarray(np.arange(6.0).reshape(2, 3))


HOST = np.ones(3)

REFUSED = {
    "asarray": (TypeError, lambda a: np.asarray(a)),
    "array": (TypeError, lambda a: np.array(a)),
    "array of a list": (TypeError, lambda a: np.array([a, a])),
    "asarray of a method's owner": (AttributeError, lambda a: a.__array_interface__),
    "memory": (AttributeError, lambda a: a.data),
    "NumPy's buffer": (TypeError, lambda a: memoryview(a)),
    "DLPack": (Exception, lambda a: np.from_dlpack(a)),
    "NumPy on the right": (TypeError, lambda a: a + HOST),
    "NumPy on the left": (TypeError, lambda a: HOST + a),
    "a 0-d NumPy array": (TypeError, lambda a: a * np.array(2.0)),
    "a 0-d NumPy array on the left": (TypeError, lambda a: np.array(2.0) * a),
    "NumPy in place": (TypeError, lambda a: a.__iadd__(HOST)),
    "into NumPy in place": (TypeError, lambda a: HOST.__iadd__(a[0])),
    "NumPy compared": (TypeError, lambda a: a > HOST),
    "NumPy in matmul": (TypeError, lambda a: a @ HOST),
    "NumPy in a ufunc": (TypeError, lambda a: np.add(a, HOST)),
    "NumPy as out": (TypeError, lambda a: np.add(a, a, out=np.ones((2, 3)))),
    "NumPy in where": (TypeError, lambda a: np.where(a > 0, a, HOST)),
    "NumPy in concatenate": (TypeError, lambda a: np.concatenate([a[0], HOST])),
    "NumPy in einsum": (TypeError, lambda a: np.einsum("ij,j->i", a, HOST)),
    "NumPy in a method": (TypeError, lambda a: a.dot(HOST)),
    "NumPy in solve": (TypeError, lambda a: np.linalg.solve(a @ a.T, np.ones(2))),
    "NumPy in CuPy's own function": (TypeError, lambda a: cp.sum(HOST)),
    "NumPy assigned": (ValueError, lambda a: a.__setitem__(0, HOST)),
    "NumPy added at": (TypeError, lambda a: cp.add.at(a, 0, HOST)),
    "added at into NumPy": (TypeError, lambda a: cp.add.at(HOST, 0, a[0])),
    "a list in a ufunc": (TypeError, lambda a: cp.add(a, [1.0, 2.0, 3.0])),
    "None in a ufunc": (TypeError, lambda a: a + None),
    "where= of a ufunc": (TypeError, lambda a: np.add(a, a, where=a > 0)),
    "where= of CuPy's ufunc": (TypeError, lambda a: cp.add(a, a, where=a > 0)),
    "where= of a reduction": (TypeError, lambda a: np.sum(a, where=a > 0)),
    "where= of a method": (TypeError, lambda a: a.sum(where=a > 0)),
    "initial= of a reduction": (TypeError, lambda a: np.max(a, initial=0.0)),
    "initial= of a ufunc's reduce": (TypeError, lambda a: np.add.reduce(a, initial=0.0)),
    "correction=": (TypeError, lambda a: np.var(a, correction=1)),
    "clip(min=)": (TypeError, lambda a: np.clip(a, min=0.0)),
    "take(mode=)": (TypeError, lambda a: np.take(a, [0], mode="clip")),
    "einsum(out=)": (TypeError, lambda a: np.einsum("ij->j", a, out=a[0])),
    "cholesky(upper=)": (TypeError, lambda a: np.linalg.cholesky(a @ a.T, upper=True)),
    "a name CuPy lacks": (AttributeError, lambda a: cp.unstack),
    "a function CuPy lacks": (TypeError, lambda a: np.unstack(a)),
    "block": (TypeError, lambda a: np.block([a, a])),
    "vecdot": (TypeError, lambda a: np.vecdot(a, a)),
    "linalg.vector_norm": (TypeError, lambda a: np.linalg.vector_norm(a)),
    "a method CuPy lacks": (AttributeError, lambda a: a.setflags(write=False)),
    "cp.linalg.multi_dot": (AttributeError, lambda a: cp.linalg.multi_dot),
    "cp.random.Generator.shuffle": (AttributeError, lambda a: cp.random.default_rng(0).shuffle),
    "what the stand-in leaves out": (NotImplementedError, lambda a: cp.ElementwiseKernel),
    "put": (NotImplementedError, lambda a: np.put(a, [0, 0], 1.0)),
    "an index of a list": (TypeError, lambda a: [1, 2, 3][cp.asarray(1)]),
    "hash": (TypeError, lambda a: {a: 1}),
    "new attributes": (AttributeError, lambda a: setattr(a, "name", 1)),
    "out of bounds": (IndexError, lambda a: a[cp.asarray([2])]),
    "out of bounds, below": (IndexError, lambda a: a[:, cp.asarray([-4])]),
    "out of bounds in take": (IndexError, lambda a: np.take(a, cp.asarray([6]))),
    "out of bounds in setitem": (IndexError, lambda a: a.__setitem__(cp.asarray([2]), 0.0)),
    "out of bounds in add.at": (IndexError, lambda a: cp.add.at(a, cp.asarray([2]), 1.0)),
    "out of bounds, an integer": (IndexError, lambda a: a[2]),
    "a floating-point index": (IndexError, lambda a: a[1.0]),
    "two masks": (ValueError, lambda a: a[cp.asarray([True, False]), cp.asarray([True, False, True])]),
    "a mask and an index array": (ValueError, lambda a: a[cp.asarray([True, False]), cp.asarray([0])]),
    "assigned twice": (RuntimeError, lambda a: a.__setitem__(cp.asarray([0, 0]), 1.0)),
    "assigned twice, -1 and 1": (RuntimeError, lambda a: a.__setitem__(np.array([-1, 1]), 1.0)),
    "put along axis, twice": (RuntimeError, lambda a: np.put_along_axis(a, cp.asarray([[0, 0]] * 2), 1.0, 1)),
    "multiply.at": (NotImplementedError, lambda a: cp.multiply.at(a, 0, 2.0)),
    "logaddexp.at": (NotImplementedError, lambda a: np.logaddexp.at(a, 0, 2.0)),
    "subtract.at of floats": (TypeError, lambda a: cp.subtract.at(a, 0, 2.0)),
    "maximum.at of halves": (TypeError, lambda a: cp.maximum.at(a.astype("f2"), 0, 2.0)),
    "maximum.reduce": (NotImplementedError, lambda a: np.maximum.reduce(a)),
    "out= of another shape": (ValueError, lambda a: cp.add(a[0], a[0], out=cp.zeros((2, 3)))),
    "objects": (ValueError, lambda a: a.astype(object)),
    "long doubles": (ValueError, lambda a: cp.asarray(np.ones(2, np.longdouble))),
    "strings": (ValueError, lambda a: cp.asarray(["a"])),
    "another device": (RuntimeError, lambda a: cp.cuda.Device(1).__enter__()),
    "DLPack from the host": (BufferError, lambda a: cp.from_dlpack(HOST)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, a):
    error, call = REFUSED[case]
    with pytest.raises(error):
        call(a)


ALLOWED = {
    "operators": lambda x: 2 - x * x / 3.0 + (-x) ** 2 // 1 % 5,
    "NumPy's scalars": lambda x: np.float64(2) * x + np.float32(1),
    "comparisons": lambda x: (x > 1) & ~(x == 2) | (x <= 0),
    "matmul": lambda x: x @ x.T,
    "a ufunc": lambda x: np.tanh(x),
    "a ufunc with out": lambda x: np.multiply(x, 2.0, out=x.copy()),
    "infinities without a warning": lambda x: 1.0 / (x * 0.0),
    "a reduction": lambda x: np.sum(x, axis=0, keepdims=True),
    "a reduction to 0-d": lambda x: x.sum(),
    "argmax": lambda x: x.argmax(axis=1),
    "var": lambda x: np.var(x, axis=1, ddof=1),
    "stack": lambda x: np.stack([x, x], axis=1),
    "concat, by its other name": lambda x: np.concat([x, x]),
    "split": lambda x: np.split(x, 3, axis=1)[1],
    "zeros_like": lambda x: np.zeros_like(x, shape=(4,), dtype=np.float32),
    "full_like": lambda x: np.full_like(x, 3.0),
    "where": lambda x: np.where(x > 2, x, 0.0),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, x),
    "tensordot": lambda x: np.tensordot(x, x, axes=([1], [1])),
    "inv": lambda x: np.linalg.inv(x @ x.T + 1.0),
    "solve": lambda x: np.linalg.solve(x @ x.T + 1.0, x),
    "cholesky": lambda x: np.linalg.cholesky(x[:, :2] @ x[:, :2].T + np.ones_like(x, shape=(2, 2))),
    "slogdet": lambda x: np.linalg.slogdet(x @ x.T + 1.0)[1],
    "clip": lambda x: np.clip(x, 1.0, None),
    "clip, the method": lambda x: x.clip(min=1.0),
    "pad": lambda x: np.pad(x, ((1, 0), (0, 2)), mode="constant", constant_values=7.0),
    "cumsum": lambda x: np.cumsum(x, axis=1),
    "take": lambda x: np.take(x, [0, 2], axis=1),
    "take_along_axis": lambda x: np.take_along_axis(x, x.argsort(axis=1), axis=1),
    "slices": lambda x: x[::-1, None, 1:],
    "an index array of the host": lambda x: x[:, np.array([2, 0, 0])],
    "a list": lambda x: x[[1, 0]],
    "a mask": lambda x: x[x > 2],
    "views": lambda x: x.T.reshape(2, 3).mT.swapaxes(0, 1),
    "astype": lambda x: x.astype(np.float32),
    "float32 stays": lambda x: x.astype(np.float32) * 2.0,
    "size 0": lambda x: x[:0].sum(axis=0),
    "add.reduce": lambda x: np.add.reduce(x, axis=0),
    "copy": lambda x: copy.deepcopy(x),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_allowed(case, a):
    """The result is the device's, and is what NumPy computes, dtype included."""
    with np.errstate(all="ignore"):
        expected = ALLOWED[case](a.get())
    result = ALLOWED[case](a)
    assert type(result) is fakecupy.ndarray
    assert result.dtype == np.asarray(expected).dtype
    np.testing.assert_array_equal(result.get(), expected)


def test_in_place():
    a = b = cp.ones(3)
    view = a[1:]
    a += 1.0
    view *= 3.0
    assert a is b
    np.testing.assert_array_equal(a.get(), [2.0, 6.0, 6.0])
    a[cp.asarray([0, 2])] = cp.asarray([7.0, 8.0])
    a[1:2] = 9.0
    np.testing.assert_array_equal(a.get(), [7.0, 9.0, 8.0])
    a @= cp.ones((3, 1))  # CuPy has no __imatmul__: a new array
    assert a is not b


@pytest.mark.parametrize("add_at", [cp.add.at, np.add.at])
def test_add_at_adds_twice(add_at):
    w = cp.zeros((4, 2))
    add_at(w, cp.asarray([1, 1, 3]), cp.ones((3, 2)))
    np.testing.assert_array_equal(w.get()[:, 0], [0, 2, 0, 1])


def test_what_it_says_of_itself(a):
    assert (a.shape, a.ndim, a.size, a.nbytes, a.itemsize, a.dtype, len(a)) == ((2, 3), 2, 6, 48, 8, np.float64, 2)
    assert (np.shape(a), np.ndim(a), np.size(a), np.result_type(a, 1)) == ((2, 3), 2, 6, np.float64)
    assert a.device.id == 0
    assert a.device == cp.cuda.Device()
    assert a.__dlpack_device__() == (2, 0)
    assert isinstance(np.linalg.slogdet(a @ a.T), tuple)
    assert not hasattr(np.linalg.slogdet(a @ a.T), "sign")
    assert not hasattr(a, "__array_interface__")
    assert not hasattr(a, "__index__")
    assert not hasattr(a, "__contains__")
    assert [float(x) for x in a[0]] == [0.0, 1.0, 2.0]


def test_where_it_comes_from(a):
    host = np.ones(3)
    b = cp.asarray(host)
    b += 1.0
    assert host.sum() == 3.0
    assert cp.asarray(b) is b
    assert cp.array(b) is not b
    assert cp.asarray(b, dtype=np.float32).dtype == np.float32
    assert cp.array([b, b]).shape == (2, 3)
    assert cp.get_array_module(host) is np
    assert cp.get_array_module(host, b) is cp
    np.testing.assert_array_equal(cp.asnumpy(b), cp.asnumpy(np.full(3, 2.0)))
    shared = cp.from_dlpack(b)
    shared += 1.0
    assert float(b.sum()) == 9.0
    drawn = cp.random.default_rng(0).standard_normal((2, 3), dtype=np.float32)
    assert type(drawn) is cp.ndarray
    assert drawn.dtype == np.float32


COPIES = {
    "computing": (0, lambda a: (a @ a.T).sum() + np.linalg.norm(a) - a[0, cp.asarray([1])]),
    "get": (1, lambda a: a.get()),
    "asnumpy": (1, lambda a: cp.asnumpy(a)),
    "item": (1, lambda a: a.sum().item()),
    "tolist": (1, lambda a: a.tolist()),
    "float": (1, lambda a: float(a.sum())),
    "int": (1, lambda a: int(a.sum())),
    "if": (1, lambda a: 1 if a.sum() else 0),
    "if all": (1, lambda a: bool((a == a).all())),
    "allclose": (0, lambda a: np.allclose(a, a)),
    "repr": (1, lambda a: repr(a)),
    "format": (1, lambda a: f"{a}"),
    "a mask": (1, lambda a: a[a > 0]),
    "nonzero": (1, lambda a: np.nonzero(a)),
    "where with one argument": (1, lambda a: np.where(a > 0)),
}


@pytest.mark.parametrize("case", COPIES)
def test_copies_to_host_are_counted(case, a):
    number, call = COPIES[case]
    before = fakecupy.copies_to_host()
    call(a)
    assert fakecupy.copies_to_host() - before == number


class Other:
    """Another library's type, such as a tensor."""

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        return f"its own {ufunc.__name__}"

    def __array_function__(self, function, types, inputs, keywords):
        return f"its own {function.__name__}"


def test_another_type_is_asked():
    """As in CuPy 14.2: its operators leave an operand that has NumPy's protocols to that operand."""
    a = cp.ones(3)
    assert a + Other() == "its own add"
    assert a @ Other() == "its own matmul"
    assert (a < Other()) == "its own less"
    assert np.add(a, Other()) == "its own add"
    assert np.where(a, Other(), a) == "its own where"
    assert np.stack([a, Other()]) == "its own stack"


def test_installed_puts_it_in_place_and_back():
    before = sys.modules.get("cupy")
    with fakecupy.installed() as module:
        import cupy
        import cupy.cuda

        assert cupy is module is cp
        assert cupy.cuda.is_available()
    assert sys.modules.get("cupy") is before
    with pytest.raises(KeyError), fakecupy.installed():
        raise KeyError
    assert sys.modules.get("cupy") is before


def test_parameters_of_compiled_functions():
    assert cupy_names.parameters("self, Py_ssize_t axis1, order='C', *shape, shape=(1, 2), \\*, out=None") == (
        "axis1, order=None, *shape, shape=None, *, out=None"
    )
