"""Arrays and their devices, on every backend."""

import sys

import numpy as np
import pytest

from tinygrad_rnn import arrays


def host(array):
    return array if isinstance(array, (np.ndarray, np.generic)) else array.get()


def test_namespace(xp):
    x = xp.asarray([1.0, 2.0])
    assert arrays.namespace(x) is xp
    assert arrays.namespace(1.0, [2.0], None) is np
    assert arrays.namespace(np.ones(2), x) is xp
    assert arrays.namespace() is np


def test_is_array(xp):
    assert arrays.is_array(xp.asarray([1.0]))
    assert arrays.is_array(xp.asarray(1.0))
    assert arrays.is_array(np.float32(1))
    assert not any(map(arrays.is_array, [1.0, 1, True, None, [1.0], "a", xp]))


def test_device_of(xp):
    assert arrays.device_of(xp.asarray([1.0])) == ("cpu" if xp is np else "cuda:0")
    assert arrays.device_of(np.float32(1)) == "cpu"


def test_move(xp):
    x = xp.asarray([1.0, 2.0])
    back = arrays.move(x, "cpu")
    assert type(back) is np.ndarray
    assert back.tolist() == [1.0, 2.0]
    assert (back is x) == (xp is np)
    assert arrays.move(x, arrays.device_of(x)) is x  # itself, where it is already
    if xp is not np:
        for name in ("cuda", "cuda:0"):
            there = arrays.move(np.float32([1, 2]), name)
            assert isinstance(there, xp.ndarray)
            assert there.dtype == np.float32
        assert arrays.move(x, "cuda") is x
        with pytest.raises(RuntimeError, match="device 'cuda:99' cannot be used"):
            arrays.move(x, "cuda:99")


@pytest.mark.parametrize("name", ["gpu", "cpu:", "cuda:x", "cuda:-1", "", "CUDA", None, 0])
def test_move_refuses_other_names(xp, name):
    with pytest.raises(ValueError, match="device: expected 'cpu', 'cuda' or 'cuda:1', got"):
        arrays.move(xp.asarray([1.0]), name)


def test_move_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    with pytest.raises(ImportError, match="needs CuPy: pip install"):
        arrays.move(np.ones(2), "cuda")


def test_new_array_is_nobody_elses(xp):
    x = xp.asarray([1.0, 2.0])
    new = arrays.new_array(x)
    x += 1.0
    assert type(new) is type(x)
    assert host(new).tolist() == [1.0, 2.0]
    assert arrays.new_array(x, np.float32).dtype == np.float32
    assert arrays.new_array([[1, 2]], float).shape == (1, 2)
    assert arrays.new_array(3.0).shape == ()


@pytest.mark.parametrize("data", ["text", [b"bytes"], [None], object(), np.array(["2024-01-01"], "M8[D]")])
def test_new_array_refuses_what_is_no_number(data):
    with pytest.raises(TypeError, match="data: expected numbers in a regular shape"):
        arrays.new_array(data)


def test_shared_array(xp):
    x = xp.asarray([1.0, 2.0])
    shared = arrays.shared_array(x)
    x += 1.0
    assert type(shared) is type(x)
    assert host(shared).tolist() == [2.0, 3.0]


def test_private(xp):
    x = xp.asarray([1.0, 2.0])
    kept = arrays.private(x)
    x += 1.0
    assert host(kept).tolist() == [1.0, 2.0]
    assert arrays.private(2.0) == 2.0
    assert arrays.private(None) is None
    assert type(arrays.private(True)) is bool
    assert type(arrays.private(np.float32(2))) is np.float32
    assert arrays.private([1.0, 2.0]).shape == (2,)


def test_to_array(xp):
    x = xp.asarray([1.0, 2.0])
    assert arrays.to_array(x) is x
    total = arrays.to_array(np.sum(x))
    assert isinstance(total, xp.ndarray)
    assert total.shape == ()
    assert float(total) == 3.0


@pytest.mark.parametrize(("dtype", "expected"), [("f2", True), ("f4", True), ("f8", True), ("i8", False), ("?", False)])
def test_has_gradient(dtype, expected):
    assert arrays.has_gradient(np.dtype(dtype)) is expected


def test_complex_numbers_have_no_gradient():
    with pytest.raises(TypeError, match="complex128 has no gradient here"):
        arrays.has_gradient(np.dtype(complex))


def test_read_only(xp):
    x = xp.asarray([1.0, 2.0])
    seen = arrays.read_only(x)
    if xp is np:
        with pytest.raises(ValueError, match="read-only"):
            seen[0] = 5.0
    else:
        assert seen is x
    x[0] = 5.0  # the array itself stays writeable, and is what is seen
    assert host(seen).tolist() == [5.0, 2.0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scatter_add_adds_twice_where_named_twice(xp, dtype):
    target = xp.zeros((3, 2), dtype)
    arrays.scatter_add(target, xp.asarray([1, 1, -1]), xp.ones((3, 2), dtype))
    assert host(target).tolist() == [[0, 0], [2, 2], [1, 1]]
    arrays.scatter_add(target, (slice(None), 0), 1.0)
    assert host(target)[:, 0].tolist() == [1, 3, 2]
