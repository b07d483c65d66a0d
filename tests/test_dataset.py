"""Data sets: what is chosen, how it is split, and that it stays the same on its way to a worker."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepipe.artifact import Port, Signature
from edgepipe.data import preprocessing
from edgepipe.dataset import DataSource
from edgepipe.errors import OptionError, SamplesError, UnknownName

IMAGE = Port("image", (1, 3, 4, 5), "float32")


def signature(*ports: Port) -> Signature:
    return Signature(ports, ())


def steps(**table: Any) -> preprocessing.Preprocessing:
    return preprocessing.read(table)


@pytest.fixture
def labelled(tmp_path: Path) -> str:
    """100 samples, each filled with its own number; 60, 30 and 10 of three labels, sorted."""
    values = np.arange(100, dtype=np.float32)[:, None, None, None]
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    path = tmp_path / "data.npz"
    np.savez(path, image=np.broadcast_to(values, (100, 3, 4, 5)), label=labels)
    return str(path)


def numbers(dataset: Any) -> list[int]:
    return [int(sample.feeds["image"].flat[0]) for sample in dataset]


def test_limit_keeps_the_shares_of_the_labels(labelled: str) -> None:
    data = DataSource(labelled, limit=20).open(signature(IMAGE))
    assert len(data) == 20
    assert data.labels is not None
    assert Counter(data.labels) == {0: 12, 1: 6, 2: 2}
    assert [sample.label for sample in data] == data.labels
    assert numbers(data) == sorted(numbers(data))


def test_seed_decides_the_choice(labelled: str) -> None:
    def chosen(seed: int) -> list[int]:
        return numbers(DataSource(labelled, limit=20, seed=seed).open(signature(IMAGE)))

    assert chosen(0) == chosen(0) != chosen(1)


def test_larger_limit_holds_the_smaller_one(labelled: str) -> None:
    few, more = (
        set(numbers(DataSource(labelled, limit=n).open(signature(IMAGE)))) for n in (10, 40)
    )
    assert few < more


def test_split_is_disjoint_whole_and_stratified(labelled: str) -> None:
    source = DataSource(labelled, limit=50)
    kept, apart = source.open(signature(IMAGE)).split(0.2)
    assert sorted(numbers(kept) + numbers(apart)) == numbers(source.open(signature(IMAGE)))
    assert (len(kept), len(apart)) == (40, 10)
    assert Counter(apart.labels or []) == {0: 6, 1: 3, 2: 1}


def test_split_by_number_and_its_limits(labelled: str) -> None:
    data = DataSource(labelled).open(signature(IMAGE))
    assert [len(part) for part in data.split(7)] == [93, 7]
    for much in (100, 0, 1):
        if much == 1:
            assert len(data.split(much)[1]) == 1
            continue
        with pytest.raises(SamplesError, match="can't be split"):
            data.split(much)


def test_both_sides_of_a_split_go_to_a_worker_as_data(labelled: str) -> None:
    here = DataSource(labelled, limit=30, seed=3).open(signature(IMAGE)).split(0.3)
    for part, source in zip(here, DataSource(labelled, limit=30, seed=3).split(0.3), strict=True):
        sent = DataSource.from_json(json.loads(json.dumps(source.to_json())))
        assert sent == source
        assert numbers(sent.open(signature(IMAGE))) == numbers(part)


def test_data_can_be_iterated_over_again(labelled: str) -> None:
    data = DataSource(labelled, limit=5).open(signature(IMAGE))
    assert numbers(data) == numbers(data)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_is_flat_in_the_number_of_samples(tmp_path: Path, save: Any) -> None:
    import tracemalloc

    port = Port("image", (1, 3, 64, 64), "float32")

    def peak(count: int) -> int:
        path = tmp_path / f"{count}.npz"
        save(path, image=np.ones((count, 3, 64, 64), np.float32))
        tracemalloc.start()
        for _ in DataSource(str(path)).open(signature(port)):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)  # What is imported on first use counts for neither.
    assert peak(200) < peak(20) + 200_000


# Preprocessing


def test_values_are_scaled_then_centred_then_divided(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5), np.uint8)
    np.save(path, pixels)
    table = steps(scale=1 / 255, mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])
    fed = next(iter(DataSource(str(path), table).open(signature(IMAGE)))).feeds["image"]
    mean, std = (np.array(v).reshape(3, 1, 1) for v in ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4]))
    np.testing.assert_allclose(fed[0], (pixels[0] / 255 - mean) / std, atol=1e-5)
    assert fed.dtype == np.float32


def test_array_in_the_other_layout_is_refused_or_moved(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    array = np.random.default_rng(0).random((6, 4, 5, 3), np.float32)
    np.save(path, array)
    with pytest.raises(SamplesError, match="is 6x4x5x3, the model takes 1x3x4x5") as caught:
        len(DataSource(str(path)).open(signature(IMAGE)))
    assert "--layout NCHW" in caught.value.hint
    data = DataSource(str(path), steps(layout="NCHW")).open(signature(IMAGE))
    assert len(data) == 6
    np.testing.assert_array_equal(next(iter(data)).feeds["image"], np.moveaxis(array[:1], -1, -3))


def test_steps_of_one_input_leave_the_others(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.ones((1, 2)), b=np.ones((1, 2)))
    ports = signature(Port("a", (1, 2), "float32"), Port("b", (1, 2), "float32"))
    table = steps(scale=2.0, b={"mean": 5})
    (sample,) = DataSource(str(path), table).open(ports)
    assert (sample.feeds["a"][0, 0], sample.feeds["b"][0, 0]) == (2, -3)
    assert preprocessing.read(table.to_json()) == table
    with pytest.raises(SamplesError, match=r"names inputs \['c'\]"):
        DataSource(str(path), steps(c={"mean": 5})).open(ports)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"mean": "a"}, "mean takes a number or a list"),
        ({"scale": True}, "scale takes a number"),
        ({"size": 1.5}, "size takes a whole number"),
        ({"antialias": 1}, "antialias takes true or false"),
        ({"channels": 3}, "channels takes text"),
        ({"std": [1, 0]}, "divides by nothing"),
        ({"mean": [1, 2], "std": [1, 2, 3]}, "mean has 2 numbers and std 3"),
        ({"mean": float("nan")}, "mean takes"),
        ({"resize": "cubic"}, "unknown resize of .* 'cubic'"),
        ({"men": 1}, "unknown key of .* 'men'"),
    ],
)
def test_step_that_is_none_is_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises((OptionError, UnknownName), match=words):
        preprocessing.read(table)


def test_means_for_another_number_of_channels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.ones((1, 3, 4, 5), np.float32))
    with pytest.raises(SamplesError, match="mean has 2 numbers, the input 3 channels"):
        list(DataSource(str(path), steps(mean=[1, 2])).open(signature(IMAGE)))


def test_fractions_for_an_integer_input_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.full((1, 4), 7, np.uint8))
    port = Port("x", (1, 4), "int8")
    (sample,) = DataSource(str(path), steps(mean=128)).open(signature(port))
    assert sample.feeds["x"].tolist() == [[-121] * 4]
    with pytest.raises(SamplesError, match="is not whole after preprocessing"):
        list(DataSource(str(path), steps(std=2)).open(signature(port)))


# Random


def test_random_is_told_apart_and_the_same_for_a_seed() -> None:
    source = DataSource("random", limit=3, seed=1)
    assert source.random
    assert "not data" in source.words()
    first, second = (list(source.open(signature(IMAGE))) for _ in range(2))
    assert len(first) == 3
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.feeds["image"], other.feeds["image"])
    assert not np.array_equal(first[0].feeds["image"], first[1].feeds["image"])


def test_random_pixels_go_through_the_preprocessing() -> None:
    source = DataSource("random", steps(scale=1 / 255))
    values = next(iter(source.open(signature(IMAGE)))).feeds["image"]
    assert 0 <= values.min() < values.max() <= 1


# Labels in arrays


def test_labels_that_do_not_match_in_number_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, image=np.ones((4, 3, 4, 5)), label=np.arange(3))
    with pytest.raises(SamplesError, match="3 labels in 'label' for 4 samples"):
        len(DataSource(str(path)).open(signature(IMAGE)))


def test_labels_are_found_by_the_name_of_their_array(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, image=np.ones((2, 3, 4, 5)), kind=np.array(["dog", "cat"]))
    data = DataSource(str(path), labels="kind").open(signature(IMAGE))
    assert data.labels == [1, 0]
    assert list(data.label_names) == ["cat", "dog"]
    with pytest.raises(SamplesError, match="no array 'kinds' of labels"):
        len(DataSource(str(path), labels="kinds").open(signature(IMAGE)))


# The key


def test_key_changes_with_what_decides_the_samples(labelled: str, tmp_path: Path) -> None:
    plain = DataSource(labelled)
    keys = [
        source.key(signature(IMAGE))
        for source in (
            plain,
            DataSource(labelled, limit=5),
            DataSource(labelled, seed=1),
            DataSource(labelled, steps(scale=2)),
            *plain.split(0.2),
            plain.split(0.3)[0],
            DataSource("random"),
            DataSource("random", seed=1),
        )
    ]
    copy = tmp_path / "copy.npz"
    copy.write_bytes(Path(labelled).read_bytes())
    assert DataSource(str(copy)).key(signature(IMAGE)) == keys[0]
    np.savez(copy, image=np.ones((3, 3, 4, 5)))
    keys.append(DataSource(str(copy)).key(signature(IMAGE)))
    assert len(set(keys)) == len(keys)
