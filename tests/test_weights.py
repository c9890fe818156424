"""Files of weights: exact, whole or not there, and never code."""

from __future__ import annotations

import io
import os
import pickle
import stat
import tracemalloc
import zipfile

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim

STATE = {
    "model": {
        "cell.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "bias": np.zeros(0),
        "on": np.ones(1, bool),
    },
    "epoch": 7,
    "lr": 0.1,
    "file": tg.tensor([1.0, np.nan]),
}


@pytest.fixture(params=[".npz", ".safetensors"])
def path(request, tmp_path):
    if request.param == ".safetensors":
        pytest.importorskip("safetensors")
    return tmp_path / f"weights{request.param}"


def same(a, b):
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    a, b = np.asarray(getattr(a, "data", a)), np.asarray(b)
    return (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())


def test_what_is_loaded_is_what_was_saved(path):
    tg.save(path, STATE)
    loaded = tg.load(path)
    assert same(STATE, loaded)
    assert list(path.parent.iterdir()) == [path]
    assert int(loaded["epoch"]) == 7 and float(loaded["lr"]) == 0.1


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float32", "float64", ">f4", "complex64", "U5"])
def test_every_dtype_of_numbers_and_strings(tmp_path, dtype):
    array = np.array([[1, 0]]).astype(dtype)
    tg.save(tmp_path / "a.npz", {"array": array, "scalar": array[0, 0], "text": "héllo"})
    loaded = tg.load(tmp_path / "a.npz")
    assert same(loaded["array"], array) and same(loaded["scalar"], array[0, 0]) and str(loaded["text"]) == "héllo"


def test_a_model_and_its_optimiser_come_back(path):
    cell = nn.LSTMCell(2, 3, rng=0)
    optimizer = optim.Adam(cell.parameters())
    tg.scan(cell, np.ones((4, 1, 2), np.float32))[0].sum().backward()
    optimizer.step()
    tg.save(path, {"model": cell.state_dict(), "optimizer": optimizer.state_dict()})
    other = nn.LSTMCell(2, 3, rng=1)
    again = optim.Adam(other.parameters())
    saved = tg.load(str(path))
    other.load_state_dict(saved["model"])
    again.load_state_dict(saved["optimizer"])
    assert same(cell.state_dict(), other.state_dict())
    assert same(optimizer.state_dict(), again.state_dict()) and again.state[0]["step"] == 1


def test_numpy_reads_it_and_the_same_weights_make_the_same_file(tmp_path):
    a, b = tmp_path / "a.npz", tmp_path / "b.npz"
    for path in (a, b):
        tg.save(path, STATE)
    assert a.read_bytes() == b.read_bytes()
    with np.load(a) as file:
        assert set(file) == {"model/cell.weight", "model/bias", "model/on", "epoch", "lr", "file"}
    with open(a, "wb") as file:
        np.savez(file, weight=np.ones(3))
    assert same(tg.load(a), {"weight": np.ones(3)})


def test_weights_on_a_gpu_are_saved_too(tmp_path, xp):
    tg.save(tmp_path / "a.npz", {"x": tg.tensor(xp.asarray(np.ones(2)))})
    assert same(tg.load(tmp_path / "a.npz"), {"x": np.ones(2)})


def test_safetensors_reads_it_and_files_of_others_are_read(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "a.safetensors"
    tg.save(path, STATE)
    np.testing.assert_array_equal(numpy.load_file(path)["model/cell.weight"], STATE["model"]["cell.weight"])
    numpy.save_file({"weight": np.ones((2, 3), np.float32)}, path)
    assert same(tg.load(path), {"weight": np.ones((2, 3), np.float32)})
    with pytest.raises(TypeError, match=r"state 'note': \.safetensors holds only numbers"):
        tg.save(path, {"note": "hello"})
    assert same(tg.load(path), {"weight": np.ones((2, 3), np.float32)})


def test_safetensors_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    (tmp_path / "b.safetensors").write_bytes(b"")
    for call in (lambda: tg.save(tmp_path / "a.safetensors", {"a": 1}), lambda: tg.load(tmp_path / "b.safetensors")):
        with pytest.raises(ImportError, match="pip install safetensors"):
            call()


# A file is replaced whole, or not at all


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(path, monkeypatch, where, error):
    tg.save(path, {"a": np.zeros(3)})

    def fail(*_, **__):
        raise error

    if where == "write":
        monkeypatch.setattr(np.lib.format, "write_array", fail)
        monkeypatch.setattr("tinygrad_rnn.nn.weights._checksum", fail)
    else:
        monkeypatch.setattr(os, where, fail)
    with pytest.raises(type(error)):
        tg.save(path, {"a": np.ones(3)})
    monkeypatch.undo()
    assert same(tg.load(path), {"a": np.zeros(3)})
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_the_mode_is_that_of_a_new_file_or_of_the_old_one(path):
    before = os.umask(0o022)
    try:
        tg.save(path, {"a": 1})
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        path.chmod(0o600)
        tg.save(path, {"a": 2})
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


@pytest.mark.skipif(os.name == "nt", reason="symbolic links")
def test_a_link_stays_a_link(tmp_path):
    tg.save(tmp_path / "real.npz", {"a": 1})
    (tmp_path / "link.npz").symlink_to("real.npz")
    tg.save(tmp_path / "link.npz", {"a": 2})
    assert (tmp_path / "link.npz").is_symlink() and int(tg.load(tmp_path / "real.npz")["a"]) == 2


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({}, TypeError, "state: expected a dict that is not empty"),
        ({"a": {}}, TypeError, "state 'a': expected a dict that is not empty"),
        ([1], TypeError, "state: expected a dict"),
        ({"a": object()}, TypeError, r"state 'a': expected numbers or a string, got object \(object\)"),
        ({"a": {"b": None}}, TypeError, "state 'a/b': expected numbers or a string, got NoneType"),
        ({"a": 2**70}, TypeError, "state 'a': expected numbers"),
        ({"a/b": 1}, ValueError, "a name is a string without a slash, got 'a/b'"),
        ({1: 1}, ValueError, "a name is a string without a slash, got 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_saved_is_refused_and_nothing_is_written(path, state, error, message):
    with pytest.raises(error, match=message):
        tg.save(path, state)
    assert not list(path.parent.iterdir())


def test_other_suffixes_and_missing_files(tmp_path):
    for call in (lambda p: tg.save(p, {"a": 1}), tg.load):
        with pytest.raises(ValueError, match=r"path: expected a name that ends in .npz or .safetensors, got .*a.pt"):
            call(tmp_path / "a.pt")
    with pytest.raises(FileNotFoundError):
        tg.load(tmp_path / "none.npz")


# What is damaged, or no such file, is refused


def refused(path):
    """Whether a file is refused, and in the right way, by a message that names it."""
    try:
        loaded = tg.load(path)
    except tg.CheckpointError as error:
        return str(error).startswith(str(path))
    return None if same(loaded, SMALL) else False  # a bit of no consequence, such as in a date


SMALL = {"a": np.arange(4, dtype=np.float32), "b": {"c": np.array(1.5)}}


def test_every_truncation_is_refused(path):
    tg.save(path, SMALL)
    whole = path.read_bytes()
    for n in range(len(whole)):
        path.write_bytes(whole[:n])
        assert refused(path), n


@pytest.mark.filterwarnings("ignore")
def test_every_flipped_bit_is_refused_or_of_no_consequence(path):
    tg.save(path, SMALL)
    whole, answers = path.read_bytes(), []
    for n in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[n // 8] ^= 1 << n % 8
        path.write_bytes(damaged)
        answers.append(refused(path))
        assert answers[-1] is not False, n
    assert answers.count(True) > 0.7 * len(answers)


@pytest.mark.filterwarnings("ignore")
def test_random_damage_is_refused(path):
    tg.save(path, SMALL)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, len(whole), rng.integers(2, 30))
        damaged[places] = rng.integers(0, 256, len(places))
        path.write_bytes(damaged.tobytes())
        assert refused(path) is not False


def test_foreign_files_are_refused(path):
    for content in (b"", b"hello" * 100, pickle.dumps({"a": 1}), bytes(1000)):
        path.write_bytes(content)
        assert refused(path)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("/tmp/this-must-not-be-made",)


def members(path, **contents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def npy(array, **keywords):
    content = io.BytesIO()
    np.lib.format.write_array(content, array, **keywords)
    return content.getvalue()


def test_npz_that_are_none_of_ours_are_refused(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, a=np.array([Evil()], dtype=object))
    assert refused(path) and not os.path.exists("/tmp/this-must-not-be-made")
    members(path, **{"a.npy": npy(np.array([Evil()], object), allow_pickle=True)})
    assert refused(path) and not os.path.exists("/tmp/this-must-not-be-made")
    members(path, **{"a.npy": pickle.dumps(Evil())})
    assert refused(path) and not os.path.exists("/tmp/this-must-not-be-made")
    members(path, **{"a.txt": "hello"})
    assert refused(path)
    members(path)
    assert refused(path)
    members(path, **{"a.npy": npy(np.ones(2)), "a/b.npy": npy(np.ones(2))})
    assert refused(path)
    members(path, **{"a.npy": npy(np.ones(2)) + b"more"})
    assert refused(path)
    members(path, **{"a.npy": npy(np.ones(2)).replace(b"(2,)", b"(9,)")})
    assert refused(path)
    huge = npy(np.ones(2)).replace(b"(2,), }         ", b"(2000000000000,),")
    members(path, **{"a.npy": huge})
    assert huge != npy(np.ones(2)) and refused(path)
    np.savez_compressed(path, a=np.zeros(10_000_000))
    assert path.stat().st_size < 100_000 and refused(path)
    members(path, **{"a.npy": npy(np.zeros(2, [("x", "f4")]))})
    assert refused(path)
    nothing = npy(np.zeros(2, "S1"))[:-2].replace(b"'|S1'", b"'|V0'").replace(b"(2,), }       ", b"(90000000,), }")
    members(path, **{"a.npy": nothing})
    assert b"|V0" in nothing and b"(90000000,)" in nothing and refused(path)


def test_what_a_file_of_lies_makes_room_for_is_bounded_by_its_size(tmp_path):
    path, huge = tmp_path / "weights.npz", npy(np.ones(2)).replace(b"(2,), }       ", b"(50000000,), }")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", huge + bytes(100_000_000))
    bomb = path.read_bytes()
    assert len(huge) == len(npy(np.ones(2))) and len(bomb) < 200_000
    unpacked = (len(huge) + 100_000_000).to_bytes(4, "little")
    path.write_bytes(bomb.replace(unpacked, (1000).to_bytes(4, "little")))
    assert refused_in_little_memory(path)
    members(path, **{"a.npy": huge})
    assert refused_in_little_memory(path)


def refused_in_little_memory(path):
    tracemalloc.start()
    try:
        return refused(path) and tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_safetensors_that_claim_too_much_are_refused(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "weights.safetensors"
    for header in (b"{}", b"[]", b'{"a":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,39999999996]}}'):
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        assert refused(path)
    path.write_bytes((2**60).to_bytes(8, "little") + b"{}")
    assert refused(path)


def test_what_a_killed_process_left_is_swept(tmp_path):
    path = tmp_path / "model.npz"
    old, new = tmp_path / ".model.npz.0123abcd.tmp", tmp_path / ".model.npz.4567abcd.tmp"
    for scratch in (old, new):
        scratch.write_bytes(b"half")
    os.utime(old, (0, 0))
    tg.save(path, {"x": np.ones(2)})
    assert not old.exists()
    assert new.exists()  # somebody may be writing it now
