"""Samples: seeded ones of every type, the user's in every form, and files that are none."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepipe.artifact import Port, Signature
from edgepipe.data.fitting import check_kind
from edgepipe.data.preprocessing import Steps
from edgepipe.dataset import DataSource
from edgepipe.errors import SamplesError
from edgepipe.inputs import DTYPES
from edgepipe.samples import SEEDED, SampleSource

IMAGE = Port("image", (1, 2, 3), "float32")
TOKENS = Port("tokens", (1, 4), "int32", high=10)


def signature(*ports: Port) -> Signature:
    return Signature(ports, ())


def given(path: Path, limit: int = 16) -> SampleSource:
    return SampleSource.of(DataSource(str(path)), limit)


def from_file(path: Path, *ports: Port, limit: int = 16) -> list[Any]:
    return given(path, limit).make(signature(*ports))


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    return tmp_path / "samples.npz"


# Seeded


def test_same_seed_gives_the_same_samples_and_another_others() -> None:
    def make(seed: int) -> list[bytes]:
        samples = SampleSource(seed=seed).make(signature(IMAGE, Port("ids", (1, 40), "int32")))
        return [array.tobytes() for sample in samples for array in sample.values()]

    assert make(3) == make(3)
    assert len(set(make(3)) | set(make(4))) == 4 * SEEDED


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_that_an_input_may_have_gets_samples(dtype: str) -> None:
    samples = SampleSource().make(signature(Port("x", (1, 500), dtype)))
    assert len(samples) == SEEDED
    for sample in samples:
        assert sample["x"].dtype == dtype
        assert sample["x"].shape == (1, 500)
        assert np.isfinite(sample["x"]).all()
        assert len(np.unique(sample["x"])) > 1


def test_floats_come_in_several_scales_up_to_more_than_pixels() -> None:
    largest = [abs(s["image"]).max() for s in SampleSource().make(signature(IMAGE))]
    assert min(largest) < 1
    assert sorted(largest)[-2] > 100
    assert max(largest) > 1000


def test_far_samples_are_those_beyond_the_scale_of_one(npz: Path) -> None:
    samples = SampleSource().make(signature(Port("x", (1, 1000), "float32")))
    far = [number for number, sample in enumerate(samples) if abs(sample["x"]).max() > 100]
    assert list(SampleSource().far()) == far
    assert list(given(npz).far()) == []


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64", "float32"])
def test_indices_stay_below_their_table(dtype: str) -> None:
    samples = SampleSource().make(signature(Port("ids", (1, 400), dtype, high=10)))
    seen = np.unique([sample["ids"] for sample in samples])
    assert seen.tolist() == list(range(10))


def test_integers_that_nothing_bounds_grow_from_flags_to_a_million_and_below_zero() -> None:
    samples = SampleSource().make(signature(Port("n", (1, 9), "int64"), Port("t", (), "int16")))
    reach = [int(abs(sample["n"]).max()) for sample in samples]
    assert reach == sorted(reach)
    assert (reach[0], reach[-1]) == (1, 1_000_000)
    assert min(int(sample["n"].min()) for sample in samples) == -1_000_000
    assert {int(sample["n"].max()) for sample in samples} >= {1, 10, 1000}


@pytest.mark.parametrize("number", range(SEEDED))
def test_both_ends_of_a_table_are_read_by_every_sample(number: int) -> None:
    port = Port("ids", (1, 2), "int64", high=50_000)
    assert set(SampleSource().make(signature(port))[number]["ids"].ravel()) == {0, 49_999}


def test_bytes_without_a_table_are_pixels() -> None:
    samples = SampleSource().make(signature(Port("image", (1, 900), "uint8")))
    assert {int(samples[0]["image"].min()) < 20, int(samples[0]["image"].max()) > 235} == {True}


def test_samples_are_in_the_layout_of_the_given_model() -> None:
    port = Port("image", (1, 8, 9, 3), "float32", permutation=(0, 2, 3, 1))
    assert SampleSource().make(signature(port))[0]["image"].shape == (1, 3, 8, 9)


def test_type_without_random_samples_asks_for_real_ones() -> None:
    with pytest.raises(SamplesError, match="of type string") as caught:
        SampleSource().make(signature(Port("text", (1,), "string")))
    assert "--samples" in caught.value.hint


# The user's


@pytest.mark.parametrize(
    ("shape", "count"), [((1, 2, 3), 1), ((5, 2, 3), 5), ((5, 1, 2, 3), 5), ((40, 2, 3), 16)]
)
def test_one_array_is_one_sample_or_many(npz: Path, shape: tuple[int, ...], count: int) -> None:
    given = np.random.default_rng(0).random(shape)
    np.savez(npz, image=given)
    samples = from_file(npz, IMAGE)
    assert len(samples) == count
    assert {sample["image"].shape for sample in samples} == {(1, 2, 3)}
    assert {sample["image"].dtype for sample in samples} == {np.dtype("float32")}
    rows = given.reshape(-1, 2, 3).astype(np.float32)
    places = [np.flatnonzero((rows == one["image"]).all(axis=(1, 2))).item() for one in samples]
    assert places == sorted(set(places)), "each of them is one of the rows, in their order"


def test_scalars_are_stacked_along_one_axis(npz: Path) -> None:
    np.savez(npz, t=np.array([1.0, 2.0, 3.0]))
    samples = from_file(npz, Port("t", (), "float32"))
    assert [(sample["t"].shape, float(sample["t"])) for sample in samples] == [
        ((), 1.0), ((), 2.0), ((), 3.0),
    ]  # fmt: skip


def test_npy_is_for_the_only_input(tmp_path: Path) -> None:
    path = tmp_path / "samples.npy"
    np.save(path, np.ones((3, 2, 3)))
    assert len(from_file(path, IMAGE)) == 3
    with pytest.raises(SamplesError, match="the model's inputs are 'image', 'tokens'"):
        from_file(path, IMAGE, TOKENS)


@pytest.mark.parametrize("name", ["arr_0", "x", "image"])
def test_unnamed_array_is_for_the_only_input(npz: Path, name: str) -> None:
    np.savez(npz, **{name: np.ones((1, 2, 3))})  # type: ignore[arg-type] # see edgepipe.tensors
    assert list(from_file(npz, IMAGE)[0]) == ["image"]


def test_samples_come_in_the_order_of_the_inputs(npz: Path) -> None:
    np.savez(npz, tokens=np.zeros((2, 4), np.int64), image=np.ones((2, 2, 3)))
    first, second = from_file(npz, IMAGE, TOKENS)
    assert list(first) == list(second) == ["image", "tokens"]
    assert first["tokens"].dtype == np.int32


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"picture": np.ones((1, 2, 3)), "tokens": np.ones((1, 4), int)}, "named 'picture'"),
        ({"image": np.ones((1, 2, 3))}, "the model's inputs are 'image', 'tokens'"),
        ({"image": np.ones((2, 2, 3)), "tokens": np.ones((3, 4), int)}, "unlike numbers"),
        ({"image": np.ones((0, 2, 3)), "tokens": np.ones((0, 4), int)}, "holds no sample"),
        ({"image": np.ones((2, 3, 2)), "tokens": np.ones((2, 4), int)}, "is 2x3x2, the model"),
        ({"image": np.ones((1, 2, 3)), "tokens": np.ones((1, 4))}, "float64, the model takes int"),
        ({"image": np.full((1, 2, 3), np.nan), "tokens": np.ones((1, 4), int)}, "holds NaN"),
        ({"image": np.full((1, 2, 3), "a"), "tokens": np.ones((1, 4), int)}, "<U1, the model"),
        ({"image": np.ones((1, 2, 3)), "tokens": np.full((1, 4), 10)}, "the model takes 0 to 9"),
        ({"image": np.ones((1, 2, 3)), "tokens": np.full((1, 4), -1)}, "holds -1 to -1"),
    ],
)
def test_samples_that_do_not_fit_are_refused(npz: Path, arrays: Any, words: str) -> None:
    np.savez(npz, **arrays)
    with pytest.raises(SamplesError, match=words) as caught:
        from_file(npz, IMAGE, TOKENS)
    assert str(npz) in caught.value.message


def test_integer_that_its_type_cannot_hold_is_refused(npz: Path) -> None:
    np.savez(npz, x=np.array([[300]]))
    with pytest.raises(SamplesError, match="the model takes 0 to 255"):
        from_file(npz, Port("x", (1, 1), "uint8"))


def _truncated(path: Path) -> None:
    np.savez(path, image=np.ones((1, 2, 3)))
    path.write_bytes(path.read_bytes()[:150])


def _of_objects(path: Path) -> None:
    np.savez(path, image=np.array([{}], dtype=object))


def _of_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("image.npy", "no array")


def _too_large(path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999,), }"
    path.write_bytes(
        b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"
    )


def _damaged_inside(path: Path) -> None:
    np.savez_compressed(path, image=np.random.default_rng(0).random((1, 2, 3)))
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\0" * 400),
        lambda path: path.write_text("1,2,3\n"),
        _truncated, _of_objects, _of_text, _too_large, _damaged_inside,
    ],
)  # fmt: skip
def test_file_that_holds_no_samples_is_one_clear_error(npz: Path, spoil: Any) -> None:
    spoil(npz)
    with pytest.raises(SamplesError, match="can't be read as samples") as caught:
        from_file(npz, IMAGE)
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["absent", "folder"])
def test_no_file_is_said_before_any_work(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    source = given(path)
    for use in (source.make, source.key):
        with pytest.raises(SamplesError, match="no samples at"):
            use(signature(IMAGE))


# The key


def test_key_changes_with_what_decides_the_samples(npz: Path) -> None:
    np.savez(npz, image=np.ones((1, 2, 3)))
    keys = [
        SampleSource().key(signature(IMAGE)),
        SampleSource(seed=1).key(signature(IMAGE)),
        given(npz).key(signature(IMAGE)),
        given(npz, 1).key(signature(IMAGE)),
        SampleSource().key(signature(TOKENS)),
        SampleSource().key(signature(Port("tokens", (1, 4), "int32", high=11))),
        SampleSource().key(signature(Port("image", (2, 2, 3), "float32"))),
    ]
    np.savez(npz, image=np.zeros((1, 2, 3)))
    keys.append(given(npz).key(signature(IMAGE)))
    assert len(set(keys)) == len(keys)
    assert SampleSource().key(signature(IMAGE)) == keys[0]


def test_key_is_that_of_the_given_layout() -> None:
    moved = Port("image", (1, 3, 2), "float32", permutation=(0, 2, 1), tensor="image_nhwc")
    assert SampleSource().key(signature(moved)) == SampleSource().key(signature(IMAGE))


def test_words_name_the_source(npz: Path) -> None:
    assert given(npz).words() == str(npz)
    assert "seed 7" in SampleSource(seed=7).words()


@pytest.mark.parametrize(("dtype", "scaled"), [("int8", True), ("int64", False)])
def test_reals_for_integers_are_told_how_to_be_quantized(dtype: str, scaled: bool) -> None:
    with pytest.raises(SamplesError) as caught:
        check_kind(np.dtype("float32"), Port("x", (1, 3), dtype), "x.npz", Steps())
    assert ("round(x / scale + zero point)" in caught.value.hint) == scaled
