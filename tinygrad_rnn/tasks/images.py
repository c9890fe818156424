"""Handwritten digits, read one pixel at a time and named after the last one: how far back does a cell remember?

Of real images, 64 to 784 steps long: those of scikit-learn (:func:`~tinygrad_rnn.tasks.digits`), 8 x 8 or enlarged, and
those of MNIST (:func:`~tinygrad_rnn.tasks.mnist`), where the user has its files: they are not downloaded. Both can be
read in another order of the pixels, always the same one, in which neighbours are far apart (*permuted*: Le, Jaitly and
Hinton, 2015).
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import described, whole
from .task import Batch

__all__ = ["Images", "digits", "enlarged", "mnist", "read_idx"]


class Images(NamedTuple):
    """Images as rows of pixels, in the order in which they are read.

    Parameters
    ----------
    pixels : array, (images, steps)
        Grey values, float32 from 0 to 1.
    labels : array, (images,)
        Which digit it is, int64.

    Examples
    --------
    >>> images = Images(np.zeros((5, 64), np.float32), np.arange(5))
    >>> images.batch([0, 1, 2]).x.shape, images.permuted(rng=0).batch().y
    ((64, 3, 1), array([0, 1, 2, 3, 4]))
    """

    pixels: np.ndarray
    labels: np.ndarray

    def batch(self, which: Any = slice(None)) -> Batch:
        """Some of the images as inputs (steps, B, 1), and their labels.

        Parameters
        ----------
        which : slice or array of int, optional
            Which of them; by default all.

        Returns
        -------
        Batch
            The pixels, one at each step, and the labels, asked for at the end.
        """
        return Batch(np.ascontiguousarray(self.pixels[which].T)[..., None], self.labels[which])

    def permuted(self, rng: Any = None) -> Images:
        """The pixels of all images in one random order: of one seed, the same for training and for test images.

        Parameters
        ----------
        rng : int or Generator, optional
            What the order is drawn from.

        Returns
        -------
        Images
            New ones.
        """
        order = np.random.default_rng(rng).permutation(self.pixels.shape[1])
        return self._replace(pixels=np.ascontiguousarray(self.pixels[:, order]))


def digits(size: int = 8) -> tuple[Images, Images]:
    """The 1797 digits of scikit-learn (the test set of the UCI's "Optical recognition of handwritten digits").

    Grey values 0 to 16 as 0 to 1. 1347 to train and 450 to test, with the same share of each digit in both
    (scikit-learn's ``train_test_split``, seed 0).

    Baselines: always the most frequent digit .102; with all pixels at once, logistic regression .969, the nearest
    neighbour .982. Pixel by pixel, by PyTorch: LSTM, 64 units .967, GRU .962, tanh RNN .871, IRNN .829.

    Parameters
    ----------
    size : int, optional
        The pixels are size x size: 8 as they are, or enlarged (see :func:`~tinygrad_rnn.tasks.enlarged`), 16 for 256
        steps, 28 for 784.

    Returns
    -------
    train, test : Images
        The two parts.

    Raises
    ------
    ImportError
        scikit-learn is not there; it has the images.

    Examples
    --------
    >>> train, test = digits(size=16)  # doctest: +SKIP
    >>> train.batch().x.shape, test.batch().x.shape  # doctest: +SKIP
    ((256, 1347, 1), (256, 450, 1))
    """
    size = whole("size", size, 8)
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError("digits() are in scikit-learn: pip install 'tinygrad_rnn[examples]'") from error
    loaded = load_digits()
    pixels, labels = (loaded.data / 16).astype(np.float32), loaded.target.astype(np.int64)
    if size != 8:
        pixels = enlarged(pixels.reshape(-1, 8, 8), size).reshape(len(pixels), size * size)
    x_train, x_test, y_train, y_test = train_test_split(pixels, labels, test_size=450, stratify=labels, random_state=0)
    return Images(x_train, y_train), Images(x_test, y_test)


def enlarged(images: np.ndarray, size: int) -> np.ndarray:
    """Square images with more pixels: bilinear, from middle to middle of the pixels, clamped.

    Parameters
    ----------
    images : array, (number, n, n)
        The images.
    size : int
        They get size x size pixels, at least n x n.

    Returns
    -------
    array, (number, size, size)
        New images, of the same dtype.

    Raises
    ------
    ValueError
        The images are not square, or size is below n.

    Examples
    --------
    >>> enlarged(np.array([[[0.0, 1.0], [2.0, 3.0]]]), 4)[0]
    array([[0.  , 0.25, 0.75, 1.  ],
           [0.5 , 0.75, 1.25, 1.5 ],
           [1.5 , 1.75, 2.25, 2.5 ],
           [2.  , 2.25, 2.75, 3.  ]])
    """
    if images.ndim != 3 or images.shape[1] != images.shape[2] or not images.size:
        raise ValueError(f"images: expected square ones, (number, n, n), got {described(images)}")
    n = images.shape[1]
    size = whole("size", size, n)
    places = (np.arange(size) + 0.5) * n / size - 0.5
    weights = np.stack([np.interp(places, np.arange(n), row) for row in np.eye(n)], axis=1).astype(images.dtype)
    return weights @ images @ weights.T


# MNIST, from the user's files -----------------------------------------------------------------------------------------

KINDS = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}  # of numbers in an IDX file
LARGEST = 2**28  # bytes, of the numbers in one file: MNIST's largest has 47 million
NAMES = {  # the files of each part, as the source and its mirrors call them, with .gz or without
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def mnist(folder: Any) -> tuple[Images, Images]:
    """MNIST (LeCun, Cortes and Burges, 1998), from its four IDX files in a folder of the user's, gzipped or not.

    60,000 images to train and 10,000 to test, of 28 x 28 pixels: 784 steps. (Fashion-MNIST and others that come in
    files of these names are read as well.)

    Baselines, 100 units (Cooijmans et al., 2016), as they are / permuted: tanh RNN .350 / .350, IRNN .970 / .820, LSTM
    .989 / .902, with batch normalisation .990 / .954.

    Parameters
    ----------
    folder : str or Path
        Where the files are.

    Returns
    -------
    train, test : Images
        The two parts.

    Raises
    ------
    FileNotFoundError
        A file is not there.
    ValueError
        A file is not what it has to be: see :func:`~tinygrad_rnn.tasks.read_idx`.

    Examples
    --------
    >>> train, test = mnist("data/mnist")  # doctest: +SKIP
    >>> train.pixels.shape, test.labels.shape  # doctest: +SKIP
    ((60000, 784), (10000,))
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"folder: there is no folder {folder}: put the four IDX files of MNIST into it, "
                                f"{NAMES['train'][0]} and so on, gzipped or not")  # fmt: skip
    return tuple(_part(folder, *names) for names in NAMES.values())


def _part(folder: Path, image_name: str, label_name: str) -> Images:
    images_at, labels_at = _found(folder, image_name), _found(folder, label_name)
    images, labels = read_idx(images_at), read_idx(labels_at)
    if images.dtype != np.uint8 or images.ndim != 3 or not images.size:
        raise ValueError(f"{images_at}: expected images, uint8 (number, rows, columns), got {described(images)}")
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1] or labels.max() > 9:
        raise ValueError(f"{labels_at}: expected a label 0 to 9 for each of the {len(images)} images, got "
                         f"{described(labels)} up to {labels.max(initial=0)}")  # fmt: skip
    return Images(images.reshape(len(images), -1).astype(np.float32) / np.float32(255), labels.astype(np.int64))


def _found(folder: Path, name: str) -> Path:
    """The file of that name, or with a dot before idx (as some mirrors have it), or gzipped."""
    candidates = [folder / (n + end) for n in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"{folder}: expected {name} or {name}.gz there")


def read_idx(path: Any) -> np.ndarray:
    """The array in an IDX file, gzipped (if it is called so, .gz) or not.

    Its format: two bytes 0, one for the kind of the numbers, one for the number of axes; the length of each axis as
    four bytes, the highest first; then the numbers, with no padding. Memory is bounded: no more is read than the header
    says, and none at all of what would be larger than 256 MiB.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    array
        The numbers in it, of the dtype and the shape that the header says.

    Raises
    ------
    ValueError
        It is no such file, or shorter or longer than its header says, or damaged, or too large.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "two-bytes.idx")
    ...     _ = path.write_bytes(bytes([0, 0, 0x08, 1]) + bytes([0, 0, 0, 2]) + bytes([5, 255]))
    ...     read_idx(path)
    array([  5, 255], dtype=uint8)
    """
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _parsed(file.read, path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: it is damaged, or no gzip file: {error}") from error


def _parsed(read: Callable, path: Path) -> np.ndarray:
    magic = read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in KINDS or not 1 <= magic[3] <= 4:
        raise ValueError(f"{path}: no IDX file: it has to begin with 0, 0, the kind of its numbers and 1 to 4 "
                         f"axes, and begins with {list(magic)}")  # fmt: skip
    kind, sizes = np.dtype(KINDS[magic[2]]), read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError(f"{path}: it ends within its header")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    expected = math.prod(shape) * kind.itemsize
    if expected > LARGEST:
        raise ValueError(f"{path}: its header says {shape}, {expected} bytes: more than the {LARGEST} that are read")
    data = bytearray()
    while len(data) <= expected and (more := read(min(2**20, expected + 1 - len(data)))):
        data += more
    if len(data) != expected:
        raise ValueError(f"{path}: its header says {shape}, {expected} bytes, and there are "
                         f"{'more' if len(data) > expected else len(data)}")  # fmt: skip
    return np.frombuffer(data, kind).astype(kind.newbyteorder("="), copy=False).reshape(shape)
