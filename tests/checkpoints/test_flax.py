import msgpack
import numpy as np
import pytest

from zoo.checkpoints.flax import flatten, read_flax
from zoo.errors import UserError


def encoded(array):
    """An array as flax writes it."""
    payload = (array.shape, array.dtype.name, array.tobytes())
    return msgpack.ExtType(1, msgpack.packb(payload, use_bin_type=True))


def written(tmp_path, tree):
    path = tmp_path / "checkpoint_1"
    path.write_bytes(msgpack.packb(tree))
    return path


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "uint8", "bool", "complex64"])
def test_arrays_come_back(tmp_path, dtype):
    array = np.arange(6).reshape(1, 2, 3).astype(dtype)
    tree = read_flax(written(tmp_path, {"params": {"layer": {"kernel": encoded(array)}}, "step": 3}))
    assert tree["step"] == 3
    assert np.array_equal(tree["params"]["layer"]["kernel"], array)
    assert tree["params"]["layer"]["kernel"].dtype == dtype


def test_bfloat16_becomes_float32(tmp_path):
    values = np.array([1.0, -2.5, 0.15625], np.float32)
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    code = msgpack.ExtType(1, msgpack.packb(((3,), "bfloat16", halves.tobytes())))
    assert np.array_equal(read_flax(written(tmp_path, {"w": code}))["w"], values)


def test_split_arrays_are_joined(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    chunks = {str(i): encoded(part) for i, part in enumerate(np.array_split(array.ravel(), 3))}
    tree = {"w": {"__msgpack_chunked_array__": True, "shape": {"0": 3, "1": 4}, "chunks": chunks}}
    assert np.array_equal(read_flax(written(tmp_path, tree))["w"], array)


def test_numpy_scalars_and_complex_numbers(tmp_path):
    scalar = msgpack.ExtType(3, msgpack.packb(((), "float32", np.float32(0.5).tobytes())))
    tree = read_flax(written(tmp_path, {"s": scalar, "c": msgpack.ExtType(2, msgpack.packb((1.0, 2.0)))}))
    assert (tree["s"], tree["c"]) == (0.5, 1 + 2j)


def test_keys_are_joined_and_empty_branches_vanish():
    assert flatten({"a": {"b": {"c": 1}, "d": {}}, "e": 2}) == {"a/b/c": 1, "e": 2}


@pytest.mark.parametrize(
    "payload",
    [
        ((2, 2), "float32", b"\0" * 15),
        ((-1,), "float32", b""),
        ((1,), "object", b"\0" * 8),
        ((2**40,), "uint8", b"\0"),
    ],
)
def test_impossible_arrays_are_refused(tmp_path, payload):
    path = written(tmp_path, {"w": msgpack.ExtType(1, msgpack.packb(payload))})
    with pytest.raises(UserError, match="checkpoint_1: damaged"):
        read_flax(path)


def test_cut_and_foreign_files_are_refused_in_one_line(tmp_path):
    whole = written(tmp_path, {"w": encoded(np.zeros(100, np.float32))})
    for name, content in {
        "cut": whole.read_bytes()[:-7],
        "extra": whole.read_bytes() + b"\0",
        "list": msgpack.packb([1, 2]),
        "unknown": msgpack.packb({"w": msgpack.ExtType(9, b"")}),
        "empty": b"",
        "text": b"hello",
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            read_flax(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such checkpoint"):
        read_flax(tmp_path / "nothing")
