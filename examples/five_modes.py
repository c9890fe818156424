"""One sequence in, another out: the five ways in which a recurrent network is used, each on a language of ten digits.

    one to one              a digit, its successor               a network without recurrence: a sequence of length 1
    one to many             a number, the countdown from it      the input comes once, then nothing
    many to one             bits, how many of them are 1         only the last output counts
    many to many, aligned   digits, the largest of them so far   every output counts, at its own step
    many to many, apart     a sentence, its translation          an encoder reads it all before a decoder writes

The translation is word for word: 9 is added to every digit, modulo 10. The decoder is trained with the right word of
the step before as its input (teacher forcing); in use it has only its own (free running). Its last row reads the input
backward, as Sutskever et al. (2014) did: the first word is then read just before its translation is written, and the
gradient has something near to start from.

    python examples/five_modes.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim

WORDS, STOP, NOTHING = 11, 10, -1  # the digits and a stop; nothing is a vector of zeros


def vectors(words: np.ndarray) -> np.ndarray:
    """Words (time, batch) as inputs (time, batch, WORDS)."""
    return (words[..., None] == np.arange(WORDS)).astype(np.float32)


class Reader(nn.Module):
    """The first four modes: a network over the whole sequence, whose outputs count from a step on."""

    def __init__(self, hidden: int, rng: np.random.Generator, outputs: slice = slice(None)):
        self.rnn, self.readout = nn.GRU(WORDS, hidden, rng=rng), nn.Linear(hidden, WORDS, rng=rng)
        self.outputs = outputs

    def forward(self, x, y=None):
        hs, _ = self.rnn(vectors(x))
        return self.readout(hs[self.outputs])


class Translator(nn.Module):
    """The fifth: what the encoder knows at the end is what the decoder starts from."""

    def __init__(self, hidden: int, rng: np.random.Generator, backward: bool = False):
        self.encoder, self.decoder = (nn.GRU(WORDS, hidden, rng=rng) for _ in range(2))
        self.readout, self.backward = nn.Linear(hidden, WORDS, rng=rng), backward

    def forward(self, x, y=None):
        """Scores of the words. y: the right ones, told by a teacher one step later; without, it is on its own."""
        _, state = self.encoder(vectors(x[::-1] if self.backward else x))
        word = np.full((1, x.shape[1]), STOP)
        if y is not None:
            hs, _ = self.decoder(vectors(np.concatenate([word, y[:-1]])), state)
            return self.readout(hs)
        scores = []
        for _ in range(len(x)):
            h, state = self.decoder(vectors(word), state)
            scores.append(self.readout(h))
            word = scores[-1].numpy().argmax(axis=-1)
        return tg.concatenate(scores)


# The languages: each draws a batch of inputs and targets, (time, batch) -----------------------------------------------


def successor(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, np.ndarray]:
    x = rng.integers(10, size=(1, batch))
    return x, (x + 1) % 10


def countdown(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.full((10, batch), NOTHING)
    x[0] = rng.integers(10, size=batch)
    y = x[0] - np.arange(10)[:, None]
    return x, np.where(y < 0, STOP, y)


def ones(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, np.ndarray]:
    x = rng.integers(2, size=(9, batch))
    return x, x.sum(axis=0, keepdims=True)


def running_maximum(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, np.ndarray]:
    x = rng.integers(10, size=(12, batch))
    return x, np.maximum.accumulate(x)


def translation(rng: np.random.Generator, batch: int) -> tuple[np.ndarray, np.ndarray]:
    x = rng.integers(10, size=(8, batch))
    return x, (x + 9) % 10


MODES = {  # how many steps of training, too
    "one to one": (successor, Reader, {}, 200),
    "one to many": (countdown, Reader, {}, 200),
    "many to one": (ones, Reader, {"outputs": slice(-1, None)}, 300),
    "many to many, aligned": (running_maximum, Reader, {}, 300),
    "many to many, apart": (translation, Translator, {}, 800),
    "  the input backward": (translation, Translator, {"backward": True}, 800),
}


def main(arguments: list[str] | None = None) -> list[tuple]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/five_modes"), help="folder for the table")
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see whether it works")
    options = parser.parse_args(arguments)

    rows = []
    for mode, (language, network, settings, steps) in MODES.items():
        rng = np.random.default_rng(options.seed)
        model = network(64, rng, **settings)
        optimizer = optim.Adam(model.parameters(), lr=5e-3)
        losses = []
        for _ in range(5 if options.smoke else steps):
            x, y = language(rng, 64)
            loss = nn.cross_entropy(model(x, y), y)
            optimizer.zero_grad()
            loss.backward()
            optim.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        x, y = language(rng, 500)
        with tg.no_grad():
            told, alone = (np.mean(model(x, teacher).numpy().argmax(axis=-1) == y) for teacher in (y, None))
        shapes = f"{len(x)} -> {len(y)}"
        rows.append((mode, language.__name__, shapes, losses[0], np.mean(losses[-10:]), told, alone))

    lines = [f"{'mode':<24}{'language':<18}{'steps':>9}{'loss at first':>15}{'at last':>9}{'told':>7}{'alone':>7}"]
    lines += ["{:<24}{:<18}{:>9}{:>15.3f}{:>9.4f}{:>7.3f}{:>7.3f}".format(*row) for row in rows]
    print("\n".join(lines))
    print("told, alone: how many words are right, with a teacher and free running; without a decoder, the same")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
