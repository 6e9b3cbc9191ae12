"""Scans of folders: class-folders and genimage."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from featstore.errors import ConfigError
from featstore.layouts import FAKE, LAYOUTS, REAL, Record, scan


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def told(records: list[Record]) -> list[tuple[int, str, str, str]]:
    return [(r.label, r.generator, r.dataset, r.split) for r in records]


def test_class_folders__split_and_dataset_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/biggan/0_real/a.png", "train/biggan/1_fake/b.png")
    assert told(scan(tmp_path).records) == [
        (REAL, "real", "biggan", "train"),
        (FAKE, "biggan", "biggan", "train"),
    ]


@pytest.mark.parametrize(
    ("folder", "split"),
    [("valid", "val"), ("validation", "val"), ("val", "val"), ("test", "test"), ("train", "train")],
)
def test_class_folders__split_folder_names(tmp_path: Path, folder: str, split: str) -> None:
    touch(tmp_path, f"{folder}/gan/0_real/a.png")
    assert scan(tmp_path).records[0].split == split


def test_class_folders__split_below_dataset(tmp_path: Path) -> None:
    touch(tmp_path, "gan/test/1_fake/a.png")
    assert told(scan(tmp_path).records) == [(FAKE, "gan", "gan", "test")]


@pytest.mark.parametrize("name", ["progan/car/0_real/a.png", "progan/0_real/car/a.png"])
def test_class_folders__class_folders_above_and_below(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"train/{name}")
    assert told(scan(tmp_path).records) == [(REAL, "real", "progan", "train")]


def test_class_folders__no_dataset_folder_takes_the_root_name(tmp_path: Path) -> None:
    touch(tmp_path / "gan", "train/1_fake/a.png", "val/0_real/b.png")
    assert told(scan(tmp_path / "gan").records) == [
        (FAKE, "gan", "gan", "train"),
        (REAL, "real", "gan", "val"),
    ]


def test_class_folders__root_that_is_a_split_folder(tmp_path: Path) -> None:
    root = touch(tmp_path / "gan" / "test", "1_fake/a.png", "other/1_fake/a.png")
    assert told(scan(root).records) == [
        (FAKE, "gan", "gan", "test"),
        (FAKE, "other", "other", "test"),
    ]


def test_class_folders__dataset_given_turns_folders_into_classes(tmp_path: Path) -> None:
    touch(tmp_path, "train/car/0_real/1.png", "train/car/1_fake/1.png", "train/cat/1_fake/1.png")
    records = scan(tmp_path, dataset="progan").records
    assert {record.dataset for record in records} == {"progan"}
    assert [bool(record.pair) for record in records] == [True, True, False]


def test_class_folders__split_given_names_what_no_folder_names(tmp_path: Path) -> None:
    touch(tmp_path, "gan/0_real/a.png")
    assert scan(tmp_path, split="test").records[0].split == "test"


def test_class_folders__split_given_against_a_folder_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/gan/0_real/a.png")
    with pytest.raises(ConfigError, match=r"got 'test' for a tree with the folders \['train'\]"):
        scan(tmp_path, split="test")
    assert scan(tmp_path, split="train").records[0].split == "train"


def test_class_folders__first_split_folder_counts(tmp_path: Path) -> None:
    touch(tmp_path, "test/progan/car/0_real/a.png", "test/progan/train/0_real/a.png")
    assert {record.split for record in scan(tmp_path).records} == {"test"}


@pytest.mark.parametrize(("root", "split"), [("test", None), ("progan", "test")])
def test_class_folders__class_called_train_among_others(
    tmp_path: Path, root: str, split: str | None
) -> None:
    touch(tmp_path / root, "progan/car/0_real/a.png", "progan/train/0_real/a.png")
    records = scan(tmp_path / root, split=split).records
    assert {(record.dataset, record.split) for record in records} == {("progan", "test")}


def test_class_folders__split_folder_for_some_images_is_ambiguous(tmp_path: Path) -> None:
    touch(tmp_path, "car/0_real/a.png", "train/0_real/a.png")
    with pytest.raises(ConfigError, match=r"\['train'\] besides 1 images without"):
        scan(tmp_path)


def test_class_folders__relative_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "gan", "0_real/a.png")
    monkeypatch.chdir(tmp_path / "gan")
    [record] = scan(".").records
    assert (record.path, record.dataset) == (Path("0_real/a.png"), "gan")


def test_pairs__same_name_of_both_labels(tmp_path: Path) -> None:
    touch(tmp_path, "gan/0_real/c/a.v1.JPG", "gan/1_fake/c/a.v1.png", "gan/1_fake/c/b.png")
    real, fake, single = scan(tmp_path).records
    assert real.pair == fake.pair != ""
    assert single.pair == ""


@pytest.mark.parametrize(
    "other", ["val/gan2/1_fake/a.png", "test/gan/1_fake/a.png", "val/gan/class/1_fake/a.png"]
)
def test_pairs__not_across_dataset_split_or_class(tmp_path: Path, other: str) -> None:
    touch(tmp_path, "val/gan/0_real/a.png", other)
    assert {record.pair for record in scan(tmp_path).records} == {""}


def test_pairs__ambiguous_name_is_no_pair(tmp_path: Path) -> None:
    touch(tmp_path, "gan/0_real/a.png", "gan/1_fake/a.png", "gan/1_fake/a.jpg")
    assert {record.pair for record in scan(tmp_path).records} == {""}


def test_genimage__all_generators(tmp_path: Path) -> None:
    touch(tmp_path, "ADM/train/nature/n1.JPEG", "ADM/val/ai/0.PNG", "SDv5/raw/val/ai/0.PNG")
    assert told(scan(tmp_path, "genimage").records) == [
        (REAL, "real", "ADM", "train"),
        (FAKE, "ADM", "ADM", "val"),
        (FAKE, "SDv5", "SDv5", "val"),
    ]


def test_genimage__root_of_one_generator(tmp_path: Path) -> None:
    touch(tmp_path / "ADM", "val/nature/n1.JPEG", "val/ai/0.PNG")
    assert told(scan(tmp_path / "ADM", "genimage").records) == [
        (FAKE, "ADM", "ADM", "val"),
        (REAL, "real", "ADM", "val"),
    ]


def test_nothing_found__points_to_the_layout_that_fits(tmp_path: Path) -> None:
    touch(tmp_path, "ADM/val/ai/0.png", "ADM/val/nature/0.png", "list.csv")
    with pytest.raises(ConfigError) as caught:
        scan(tmp_path)
    message = str(caught.value)
    assert "folders named '0_real' or '1_fake'" in message
    assert "2 × not below a 0_real or 1_fake folder" in message
    assert "found folders ['ai', 'nature']: try --layout genimage" in message
    assert f"found '{tmp_path}/list.csv': scan it with --layout manifest" in message


def test_nothing_found__folders_above_the_root_are_no_hint(tmp_path: Path) -> None:
    touch(tmp_path / "ai", "0.png")
    with pytest.raises(ConfigError, match="choose another folder"):
        scan(tmp_path / "ai")


def test_nothing_found__empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\(no files\); choose another folder or layout"):
        scan(tmp_path, "genimage")


def test_scan__no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="which is none; check the path"):
        scan(tmp_path / "nope")


def test_scan__unknown_layout_names_the_close_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'genimage'"):
        scan(tmp_path, "genimages")


def test_layouts__are_three() -> None:
    assert set(LAYOUTS) == {"class-folders", "genimage", "manifest"}


def test_real_tree__agrees_with_a_plain_walk(shared: Callable[[str], Path]) -> None:
    root = shared("data/real_vs_generated")
    found = scan(root)
    expected = sorted(
        (path for path in root.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")),
        key=os.fsencode,
    )
    assert [record.path for record in found.records] == expected
    assert len(expected) == 750
    for record in found.records:
        split, dataset, label, _ = record.path.relative_to(root).parts
        assert told([record]) == [
            (("0_real", "1_fake").index(label), ("real", dataset)[record.label], dataset, split)
        ]


def test_real_tree__agrees_with_its_manifest(shared: Callable[[str], Path]) -> None:
    root = shared("data/real_vs_generated")
    tree, table = scan(root).records, scan(root / "manifest.csv", "manifest").records
    for one, other in zip(tree, table, strict=True):
        assert (one.path, *told([one])[0][::2], one.split) == (
            other.path, *told([other])[0][::2], other.split,
        )  # fmt: skip
        assert bool(one.pair) == bool(other.pair)
    assert {type(value) for value in table[0].metadata.values()} == {int, str}
    assert {"width", "licence"} <= table[0].metadata.keys()
    keys = {
        (one.dataset, one.split, one.pair, other.pair)
        for one, other in zip(tree, table, strict=True)
    }
    assert len(keys) == len({key[:3] for key in keys})
