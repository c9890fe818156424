"""The images: the split, the enlargement, the order of the pixels; and IDX files, whole, broken and hostile."""

from __future__ import annotations

import gzip
import re
import struct
import sys
import tracemalloc

import numpy as np
import pytest

from tinygrad_rnn import tasks
from tinygrad_rnn.tasks import images as module

# scikit-learn's digits ------------------------------------------------------------------------------------------------


def test_digits_are_split_evenly_and_all_are_there():
    datasets = pytest.importorskip("sklearn.datasets")
    train, test = tasks.digits()
    assert train.pixels.shape == (1347, 64) and test.pixels.shape == (450, 64)
    for part in (train, test):
        assert part.pixels.dtype == np.float32 and part.labels.dtype == np.int64
        assert part.pixels.min() == 0 and part.pixels.max() == 1
    loaded = datasets.load_digits()
    both = np.concatenate([train.pixels, test.pixels]) * 16
    key = lambda x, y: sorted(map(tuple, np.column_stack([y, x]).astype(int)))  # noqa: E731
    assert key(both, np.concatenate([train.labels, test.labels])) == key(loaded.data, loaded.target)
    shares = [np.bincount(part.labels) / len(part.labels) for part in (train, test)]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.002)
    assert np.bincount(test.labels).max() / 450 == pytest.approx(0.102, abs=5e-4)  # always the most frequent one


def test_references_get_what_the_docstring_says():
    linear_model = pytest.importorskip("sklearn.linear_model")
    neighbors = pytest.importorskip("sklearn.neighbors")
    train, test = tasks.digits()
    for model, score in (
        (linear_model.LogisticRegression(max_iter=1000), 0.969), (neighbors.KNeighborsClassifier(1), 0.982),
    ):  # fmt: skip
        assert model.fit(train.pixels, train.labels).score(test.pixels, test.labels) == pytest.approx(score, abs=2e-3)


def test_a_batch_is_time_first():
    images = module.Images(np.arange(12, dtype=np.float32).reshape(3, 4), np.array([7, 8, 9]))
    batch = images.batch([2, 0])
    assert batch.x[..., 0].T.tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]] and batch.y.tolist() == [9, 7]
    assert batch.x.flags.c_contiguous and images.batch().x.shape == (4, 3, 1)
    assert images.batch(slice(1)).answers(batch.x[:, :1]).shape == (1, 1)


def test_a_permutation_is_one_for_all_images_and_of_its_seed():
    images = module.Images(np.tile(np.arange(64, dtype=np.float32), (3, 1)), np.zeros(3, np.int64))
    a, b = images.permuted(5), images.permuted(5)
    assert np.array_equal(a.pixels, b.pixels) and (a.pixels == a.pixels[0]).all()
    assert sorted(a.pixels[0]) == list(range(64)) and not np.array_equal(a.pixels[0], images.pixels[0])
    assert not np.array_equal(images.permuted(6).pixels, a.pixels)


@pytest.mark.parametrize("size", [8, 16, 28])
def test_enlarged_is_bilinear(size):
    ndimage = pytest.importorskip("scipy.ndimage")
    images = np.random.default_rng(0).random((4, 8, 8))
    places = np.clip((np.arange(size) + 0.5) * 8 / size - 0.5, 0, 7)
    grid = np.meshgrid(places, places, indexing="ij")
    expected = [ndimage.map_coordinates(image, grid, order=1) for image in images]
    np.testing.assert_allclose(tasks.enlarged(images, size), expected, atol=1e-12)


def test_digits_enlarged():
    pytest.importorskip("sklearn")
    small, large = tasks.digits()[1], tasks.digits(16)[1]
    assert large.pixels.shape == (450, 256) and large.pixels.dtype == np.float32
    np.testing.assert_array_equal(small.labels, large.labels)
    blocks = large.pixels.reshape(450, 8, 2, 8, 2).mean(axis=(2, 4))
    assert abs(blocks - small.pixels.reshape(450, 8, 8)).max() < 0.5 and large.pixels.max() <= 1
    for size in (0, 7, 8.5):
        with pytest.raises(ValueError, match="size: expected a whole number, at least 8"):
            tasks.digits(size)
    for shape in ((8, 8), (2, 8, 7), (0, 8, 8)):
        with pytest.raises(ValueError, match="images: expected square ones"):
            tasks.enlarged(np.zeros(shape), 16)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'tinygrad_rnn[examples]'")):
        tasks.digits()


# IDX files ------------------------------------------------------------------------------------------------------------


def idx(array, kind=0x08):
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def folder(tmp_path):
    """A small MNIST: one pair of files as they are, one gzipped, with a dot in the name as some mirrors have it."""
    rng = np.random.default_rng(0)
    for part, number, dot, write in (
        ("train", 20, "-", lambda path, data: path.write_bytes(data)),
        ("t10k", 7, ".", lambda path, data: path.with_name(path.name + ".gz").write_bytes(gzip.compress(data))),
    ):
        pixels, labels = rng.integers(0, 256, (number, 28, 28), np.uint8), rng.integers(0, 10, number, np.uint8)
        write(tmp_path / f"{part}-images{dot}idx3-ubyte", idx(pixels))
        write(tmp_path / f"{part}-labels{dot}idx1-ubyte", idx(labels))
    return tmp_path


def test_mnist_is_read(folder):
    train, test = tasks.mnist(folder)
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (20, 28, 28), np.uint8), rng.integers(0, 10, 20, np.uint8)
    np.testing.assert_array_equal(train.labels, labels)
    np.testing.assert_allclose(train.pixels, pixels.reshape(20, 784) / 255, rtol=1e-6)
    assert test.pixels.shape == (7, 784) and test.pixels.dtype == np.float32 and test.labels.dtype == np.int64
    assert tasks.mnist(str(folder))[0].batch([0]).x.shape == (784, 1, 1)


@pytest.mark.parametrize(
    ("kind", "dtype"), [(0x08, "u1"), (0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")]
)
def test_all_kinds_of_numbers(tmp_path, kind, dtype):
    array = (np.random.default_rng(0).standard_normal((3, 2, 4)) * 100).astype(dtype)
    (tmp_path / "x").write_bytes(idx(array, kind))
    found = tasks.read_idx(tmp_path / "x")
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, array)


GOOD = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
HUGE = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1)
HOSTILE = {
    "empty": (b"", "no IDX file"),
    "short": (b"\0\0", "no IDX file"),
    "another magic": (b"PK\3\4" + GOOD, "no IDX file"),
    "an unknown kind": (b"\0\0\x0a\3" + GOOD[4:], "no IDX file"),
    "no axis": (b"\0\0\x08\0", "no IDX file"),
    "255 axes": (b"\0\0\x08\xff" + b"\0" * 2000, "no IDX file"),
    "a header that ends": (GOOD[:9], "ends within its header"),
    "numbers that end": (GOOD[:-1], r"says (2, 3, 4), 24 bytes, and there are 23"),
    "numbers and something more": (GOOD + b"x", "24 bytes, and there are more"),
    "a header that lies": (HUGE + b"abc", "more than the 268435456 that are read"),
    "a header that lies a little": (bytes([0, 0, 8, 1]) + struct.pack(">I", 2**28) + b"abc", "and there are 3"),
}


@pytest.mark.parametrize("zipped", [False, True], ids=["", "gz"])
@pytest.mark.parametrize(("data", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_broken_file_is_one_clear_error(tmp_path, data, message, zipped):
    path = tmp_path / ("x.gz" if zipped else "x")
    path.write_bytes(gzip.compress(data) if zipped else data)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        tasks.read_idx(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("cut", [0, 1, 5, 12, 20, -1, -9])
def test_a_broken_gzip_file(tmp_path, cut):
    path, data = tmp_path / "x.gz", gzip.compress(GOOD)
    path.write_bytes(data[:cut])
    with pytest.raises(ValueError, match=r"damaged, or no gzip file|no IDX file"):
        tasks.read_idx(path)
    for i in range(len(data)):  # one byte changed: either an error, or the change is in what nobody reads
        path.write_bytes(data[:i] + bytes([data[i] ^ 0x55]) + data[i + 1 :])
        try:
            found = tasks.read_idx(path)
        except ValueError:
            continue
        assert np.array_equal(found, np.arange(24).reshape(2, 3, 4))


def test_a_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(GOOD + bytes(200 * 2**20), 1))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="there are more"):
            tasks.read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def test_mnist_says_which_file_is_wrong(folder):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        tasks.mnist(folder / "nowhere")
    labels = folder / "train-labels-idx1-ubyte"
    good = labels.read_bytes()
    for wrong in (np.arange(19, dtype=np.uint8) % 10, np.full(20, 10, np.uint8), np.zeros((20, 1), np.uint8)):
        labels.write_bytes(idx(wrong))
        with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte: expected a label 0 to 9 for each of the 20"):
            tasks.mnist(folder)
    labels.write_bytes(good)
    for wrong in (np.zeros((20, 784), np.uint8), np.zeros((0, 28, 28), np.uint8)):
        (folder / "train-images-idx3-ubyte").write_bytes(idx(wrong))
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte: expected images, uint8"):
            tasks.mnist(folder)
    (folder / "train-images-idx3-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected train-images-idx3-ubyte or train-images-idx3-ubyte\.gz"):
        tasks.mnist(folder)
