"""Embeddings: a vector for each word, or for whatever else is counted from 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import device_of
from ..errors import check_kind, described, whole
from ..ops import take, where
from ..tensor import bare
from .init import normal
from .module import Module, Parameter


class Embedding(Module):
    """A table with one row for each of num_embeddings integers: (...) integers become (..., embedding_dim).

    It takes integers only, 0 to num_embeddings - 1: on the CPU they are checked. The gradient of a row is the sum over
    all places where it was taken. ``weight`` is (num_embeddings, embedding_dim), drawn from N(0, 1), as PyTorch's is.

    Parameters
    ----------
    num_embeddings : int
        The number of rows.
    embedding_dim : int
        The number of columns.
    padding_idx : int, optional
        An integer whose row is 0 at first, and never trained: no gradient reaches it. It may count from the end, as -1.
    rng : int or Generator, optional
        For the weight.
    dtype : dtype, optional
        Of the weight.

    Raises
    ------
    ValueError
        ``padding_idx`` is none of the embeddings.

    Examples
    --------
    >>> words = Embedding(10, 3, padding_idx=0, rng=0)
    >>> words(np.array([[1, 2], [7, 0]])).shape
    (2, 2, 3)
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *, rng: Any = None,
        dtype: Any = np.float32,
    ):  # fmt: skip
        self.num_embeddings = num_embeddings = whole("num_embeddings", num_embeddings, 1)
        self.embedding_dim = embedding_dim = whole("embedding_dim", embedding_dim, 1)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"padding_idx: expected one of {num_embeddings} embeddings, got {padding_idx}")
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        weight = normal((num_embeddings, embedding_dim), 1.0, rng, dtype)
        if padding_idx is not None:
            weight[padding_idx] = 0
        self.weight = Parameter(weight)

    def forward(self, indices: Any) -> Any:
        """The rows of the integers.

        Parameters
        ----------
        indices : array of int, (...)
            From 0 to num_embeddings - 1.

        Returns
        -------
        Tensor, (..., embedding_dim)
            Their rows.

        Raises
        ------
        TypeError
            They are no integers.
        IndexError
            There is no such row (on a GPU, this is not checked).
        """
        check_kind("Embedding: indices", indices)
        array = bare(indices)
        if array.dtype.kind not in "iu":
            raise TypeError(f"Embedding: indices: expected an array of integers, got {described(indices)}")
        last = self.num_embeddings - 1
        if array.size and device_of(array) == "cpu" and not 0 <= array.min() <= array.max() <= last:
            raise IndexError(f"Embedding: indices: expected 0 to {last}, got {array.min()} to {array.max()}")
        rows = take(self.weight, array, axis=0)
        if self.padding_idx is None:
            return rows
        return where((array == self.padding_idx)[..., None], self.weight.detach()[self.padding_idx], rows)

    def extra_repr(self) -> str:
        """Its sizes."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
