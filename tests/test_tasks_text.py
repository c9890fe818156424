"""The text: what ships with the package, its streams, and n-grams against probabilities that are written out."""

from __future__ import annotations

import hashlib
import math
import re
from fractions import Fraction

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tinygrad_rnn import tasks


def test_the_constitution_is_the_one_of_the_source():
    text = tasks.constitution()
    assert len(text) == 45345 and len(set(text)) == 71
    assert text.startswith("The Constitution of the United States of America\n") and "\r" not in text
    assert text.count("\nAmendment ") == 27 and text.endswith(
        "until an election of\nRepresentatives shall have intervened.\n"
    )
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "e398fe77f26f1ba6ea7ccc6e6f0b0c91c6de08ec7f1e5efa6be60dd39ccce4e6"
    )


def test_characters_are_numbers_in_the_order_of_the_text():
    text = tasks.characters()
    assert (len(text.train), len(text.test), len(text.alphabet)) == (40810, 4535, 71)
    assert text.decode(np.concatenate([text.train, text.test])) == tasks.constitution()
    assert text.train.dtype == np.int64 and list(text.alphabet) == sorted(text.alphabet)
    np.testing.assert_array_equal(text.encode("We the People"), [text.alphabet.index(c) for c in "We the People"])
    other = tasks.characters("hello world", held_out=0)
    assert len(other.test) == 0 and other.decode(other.train) == "hello world"


@pytest.mark.parametrize("text", ["", "a", b"bytes", None.__class__, 7])
def test_a_text_that_is_none(text):
    with pytest.raises(ValueError, match="text: expected one of at least two characters"):
        tasks.characters(text)


def test_characters_say_what_is_wrong():
    text = tasks.characters("abc")
    with pytest.raises(ValueError, match=re.escape("text: '!' is not in the alphabet (in all, 2 characters are not)")):
        text.encode("a?b!")
    for codes in ([0.0, 1.0], [3], [-1], [[0]]):
        with pytest.raises(ValueError, match="codes: expected whole numbers from 0 to 2"):
            text.decode(codes)
    for share in (1, -0.1, np.nan):
        with pytest.raises(ValueError, match="held_out: expected a share"):
            tasks.characters("abc", share)


@hypothesis.given(st.integers(2, 60), st.integers(1, 7))
def test_streams_go_on_where_the_one_before_ends(length, batch):
    codes = np.arange(length) * 3
    if length <= batch:
        with pytest.raises(ValueError, match=f"codes: {batch} streams need at least {batch + 1} of them, got {length}"):
            tasks.streams(codes, batch)
        return
    inputs, targets = tasks.streams(codes, batch)
    assert inputs.shape == targets.shape == ((length - 1) // batch, batch)
    np.testing.assert_array_equal(targets, inputs + 3)
    np.testing.assert_array_equal(inputs.T.ravel(), codes[: inputs.size])
    assert length - 1 - inputs.size < batch


def test_streams_of_something_else():
    for codes in (np.zeros(10), np.zeros((5, 2), int), "abc"):
        with pytest.raises(ValueError, match="codes: expected whole numbers"):
            tasks.streams(codes, 2)
    with pytest.raises(ValueError, match="batch: expected a whole number"):
        tasks.streams(np.arange(5), 0)


# n-grams --------------------------------------------------------------------------------------------------------------


def plain(train, history, character, symbols):
    """P(c | h) by the recursion, in fractions, counting anew each time."""
    places = [i for i in range(len(history), len(train)) if train[i - len(history) : i] == history]
    after = [train[i] for i in places]
    shorter = plain(train, history[1:], character, symbols) if history else Fraction(1, symbols)
    if not after:
        return shorter
    return (after.count(character) + len(set(after)) * shorter) / Fraction(len(after) + len(set(after)))


@hypothesis.given(st.text("abc", min_size=1, max_size=20), st.text("abcd", min_size=1, max_size=6), st.integers(0, 4))
def test_witten_bell_is_its_recursion(train, test, order):
    text, bits = train + test, 0.0
    for i in range(len(train), len(text)):
        bits -= math.log2(plain(train, text[max(i - order, 0) : i], text[i], 4))
    assert tasks.witten_bell(train, test, order, 4) == pytest.approx(bits / len(test), rel=1e-12)
    total = sum(plain(train, text[: min(order, 2)], c, 4) for c in "abcd")
    assert total == 1


@pytest.mark.parametrize(("order", "bits"), [*enumerate([4.51, 3.32, 2.36, 1.80, 1.69, 1.72])])
def test_n_grams_get_what_the_docstring_says(order, bits):
    text = tasks.characters()
    assert tasks.witten_bell(text.train.tolist(), text.test.tolist(), order, 71) == pytest.approx(bits, abs=5e-3)


def test_witten_bell_says_what_is_wrong():
    for train, test in (("", "a"), ("a", "")):
        with pytest.raises(ValueError, match="train, test: expected something in both"):
            tasks.witten_bell(train, test, 1, 2)
    with pytest.raises(ValueError, match="order: expected a whole number, at least 0"):
        tasks.witten_bell("a", "a", -1, 2)
    with pytest.raises(ValueError, match="symbols: expected a whole number, at least 1"):
        tasks.witten_bell("a", "a", 1, 0)
