"""Reading trees of one .npy file per layer."""

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from featstore.errors import ConfigError, SchemaError
from featstore.interchange.npy import NpyGroup, row_ids, scan_npy, source_row
from featstore.layers import Layer

WIDTH, EMBEDDING = 6, 4
N_BLOCKS = 3
N_ROWS = {"0_real": 7, "1_fake": 5}

Features = dict[str, NDArray[np.float32]]


def features(n_rows: int, seed: int = 0) -> Features:
    """Draw features as float32 that float16 holds exactly."""
    rng = np.random.default_rng(seed)
    files = {f"feature_layer{i}": (n_rows, WIDTH) for i in range(N_BLOCKS)}
    files |= {"feature_before_projection": (n_rows, WIDTH)}
    files |= {"feature_after_projection": (n_rows, EMBEDDING)}
    return {
        name: rng.normal(size=shape).astype(np.float16).astype(np.float32)
        for name, shape in files.items()
    }


def packed(files: Features) -> NDArray[np.float32]:
    names = [*(f"feature_layer{i}" for i in range(N_BLOCKS)), "feature_before_projection"]
    return np.concatenate([files[name] for name in names], axis=1)


def save(folder: Path, files: Features) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in files.items():
        np.save(folder / f"{name}.npy", values)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for seed, (label, n_rows) in enumerate(N_ROWS.items()):
        save(tmp_path / "train" / "progan" / label, features(n_rows, seed))
    return tmp_path


@pytest.fixture
def packed_tree(tmp_path: Path) -> Path:
    for seed, (label, n_rows) in enumerate(N_ROWS.items()):
        files = features(n_rows, seed)
        save(tmp_path / "train" / "progan" / label, {"packed_features": packed(files)})
    return tmp_path


def folder_of(tree: Path, label: str = "0_real") -> Path:
    return tree / "train" / "progan" / label


def refused(tree: Path) -> str:
    with pytest.raises(SchemaError) as caught:
        scan_npy(tree, n_layers=N_BLOCKS + 1)
    return str(caught.value)


def test_scan__layers_in_the_order_of_the_network(tree: Path) -> None:
    [group] = scan_npy(tree)
    assert (group.dataset, group.split, group.n_rows) == ("progan", "train", {0: 7, 1: 5})
    assert group.layers == (
        *(Layer(f"block.{i}", "block", i, WIDTH) for i in range(N_BLOCKS)),
        Layer("ln_post", "ln_post", N_BLOCKS, WIDTH),
        Layer("proj", "proj", N_BLOCKS, EMBEDDING, "proj"),
    )


def test_scan__ten_layers_are_sorted_by_number(tmp_path: Path) -> None:
    files = {f"feature_layer{i}": np.full((1, 2), i, np.float32) for i in range(12)}
    save(tmp_path / "test" / "x" / "0_real", files)
    [group] = scan_npy(tmp_path)
    assert group.take(0, np.array([0]))["cls"][0, :, 0].tolist() == list(range(12))


def test_scan__groups_sorted_and_valid_called_val(tmp_path: Path) -> None:
    for name in ("valid/b", "valid/a", "test/c"):
        save(tmp_path / name / "1_fake", features(2))
    groups = scan_npy(tmp_path)
    assert [(g.split, g.dataset) for g in groups] == [("test", "c"), ("val", "a"), ("val", "b")]
    assert groups[0].n_rows == {1: 2}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f4"])
def test_take__rows_in_any_order(tree: Path, dtype: str) -> None:
    files = features(N_ROWS["1_fake"], seed=1)
    save(folder_of(tree, "1_fake"), {name: x.astype(dtype) for name, x in files.items()})
    [group] = scan_npy(tree)
    rows = np.array([4, 0, 2, 2])
    taken = group.take(1, rows)
    expected = packed(files).reshape(-1, N_BLOCKS + 1, WIDTH)[rows]
    assert taken["cls"].dtype == taken["proj"].dtype == np.float16
    np.testing.assert_array_equal(taken["cls"], expected)
    np.testing.assert_array_equal(taken["proj"][:, 0], files["feature_after_projection"][rows])


def test_take__no_rows(tree: Path) -> None:
    taken = scan_npy(tree)[0].take(0, np.array([], np.int64))
    assert {name: values.shape for name, values in taken.items()} == {
        "cls": (0, N_BLOCKS + 1, WIDTH),
        "proj": (0, 1, EMBEDDING),
    }


def test_take__row_that_is_not_there(tree: Path) -> None:
    with pytest.raises(IndexError):
        scan_npy(tree)[0].take(1, np.array([5]))


def test_take__does_not_load_files(tmp_path: Path) -> None:
    """A file larger than any memory (all hole) is read by the page."""
    n_rows, width = 2**25, 1024
    folder = tmp_path / "train" / "x" / "0_real"
    folder.mkdir(parents=True)
    with (folder / "feature_layer0.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n_rows, width)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * n_rows * width)
    [group] = scan_npy(tmp_path)
    assert group.n_rows == {0: n_rows}
    assert not group.take(0, np.array([n_rows - 1, 5]))["cls"].any()


def test_packed__equals_files_per_layer(tmp_path: Path) -> None:
    files = features(7)
    save(tmp_path / "a" / "train" / "d" / "0_real", files)
    both = {"packed_features": packed(files)}
    both["feature_after_projection"] = files["feature_after_projection"]
    save(tmp_path / "b" / "train" / "d" / "0_real", both)
    rows = np.array([6, 1, 3])
    separate, together = (
        scan_npy(tmp_path / name, n_layers=N_BLOCKS + 1)[0] for name in ("a", "b")
    )
    assert separate.layers == together.layers
    for name, values in separate.take(0, rows).items():
        np.testing.assert_array_equal(together.take(0, rows)[name], values)


def test_packed__files_per_layer_win(tree: Path) -> None:
    for label, n_rows in N_ROWS.items():
        zeros = np.zeros((n_rows, (N_BLOCKS + 1) * WIDTH), np.float32)
        save(folder_of(tree, label), {"packed_features": zeros})
    [group] = scan_npy(tree)
    assert group.take(0, np.arange(7))["cls"].all()


def test_packed__default_is_clip_vit_l(tmp_path: Path) -> None:
    values = np.zeros((1, 25 * 8), np.float32)
    save(tmp_path / "train" / "x" / "1_fake", {"packed_features": values})
    [group] = scan_npy(tmp_path)
    assert [layer.name for layer in group.layers[-2:]] == ["block.23", "ln_post"]
    assert group.layers[0].width == 8


def test_packed__width_that_does_not_divide(packed_tree: Path) -> None:
    with pytest.raises(SchemaError, match=r"packed_features.npy' must hold 5 layers .* got 24"):
        scan_npy(packed_tree, n_layers=5)


def spoil_rows(folder: Path) -> None:
    np.save(folder / "feature_layer1.npy", np.zeros((6, WIDTH), np.float32))


def spoil_width(folder: Path) -> None:
    np.save(folder / "feature_layer1.npy", np.zeros((7, WIDTH + 1), np.float32))


def spoil_packed(folder: Path) -> None:
    np.save(folder / "packed_features.npy", np.zeros((7, 3 * WIDTH), np.float32))


def spoil_dtype(folder: Path) -> None:
    np.save(folder / "feature_layer1.npy", np.zeros((7, WIDTH)))


def spoil_dimensions(folder: Path) -> None:
    np.save(folder / "feature_layer1.npy", np.zeros((7, 1, WIDTH), np.float32))


def spoil_objects(folder: Path) -> None:
    np.save(folder / "feature_layer1.npy", np.full((7, WIDTH), None), allow_pickle=True)


def spoil_end(folder: Path) -> None:
    file = folder / "feature_layer1.npy"
    file.write_bytes(file.read_bytes()[:-1])


def spoil_start(folder: Path) -> None:
    (folder / "feature_layer1.npy").write_bytes(b"not an array")


def spoil_all(folder: Path) -> None:
    (folder / "feature_layer1.npy").write_bytes(b"")


def spoil_missing(folder: Path) -> None:
    (folder / "feature_layer1.npy").unlink()


def spoil_folder(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def spoil_one_label(folder: Path) -> None:
    (folder / "feature_after_projection.npy").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_rows, "must have equally many rows, got {'feature_layer0.npy': 7, 'feature_layer1"),
        (spoil_width, "must have one width, got {'feature_layer0.npy': 6, 'feature_layer1.npy': 7"),
        (spoil_packed, "must be as wide as the files per layer together (24), got 18"),
        (spoil_dtype, "feature_layer1.npy' must hold float16 or float32"),
        (spoil_dimensions, "got float32 (7, 1, 6)"),
        (spoil_objects, "feature_layer1.npy' must be a complete .npy file of numbers"),
        (spoil_end, "feature_layer1.npy' must be a complete .npy file of numbers"),
        (spoil_start, "feature_layer1.npy' must be a complete .npy file of numbers"),
        (spoil_all, "feature_layer1.npy' must be a complete .npy file of numbers"),
        (spoil_missing, "must hold all layers, got none for layer 1"),
        (spoil_folder, "must hold 'feature_layer<i>.npy' or 'packed_features.npy', got neither"),
        (spoil_one_label, "all folders must hold the same layers"),
    ],
)
def test_scan__refuses(tree: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder_of(tree))
    assert message in refused(tree)


def test_scan__no_tree(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ConfigError, match="got no such folder below"):
            scan_npy(root)


@pytest.mark.parametrize("bad", [np.nan, 1e6])
def test_take__value_without_float16_names_layer_and_file(tree: Path, bad: float) -> None:
    values = np.zeros((7, WIDTH), np.float32)
    values[3, 2] = bad
    np.save(folder_of(tree) / "feature_layer2.npy", values)
    [group] = scan_npy(tree)
    with pytest.raises(SchemaError, match=r"layer 'block.2' of '.*feature_layer2.npy': features"):
        group.take(0, np.arange(7))
    assert group.take(0, np.array([0, 1]))["cls"].shape[0] == 2


def test_records__one_per_row_and_back(tree: Path) -> None:
    [group] = scan_npy(tree)
    records = group.records()
    assert [source_row(str(record.path)) for record in records] == [
        *((0, i) for i in range(7)),
        *((1, i) for i in range(5)),
    ]
    assert records[0][1:5] == (0, "real", "progan", "train")
    assert records[-1][1:5] == (1, "progan", "progan", "train")
    assert records[-1].path == folder_of(tree, "1_fake") / "feature_layer0.npy#4"


def test_row_ids__hash_of_the_row_in_all_arrays(tree: Path) -> None:
    [group] = scan_npy(tree)
    taken = group.take(0, np.arange(7))
    for row, found in enumerate(row_ids(taken)):
        content = taken["cls"][row].tobytes() + taken["proj"][row].tobytes()
        assert found.tobytes() == blake2b(content, digest_size=16).digest()


def test_row_ids__do_not_depend_on_how_rows_are_stored(tree: Path, tmp_path: Path) -> None:
    def ids(group: NpyGroup) -> NDArray[np.uint8]:
        return row_ids(group.take(0, np.array([2, 5])))

    [group] = scan_npy(tree)
    before = ids(group)
    files = features(7)
    save(folder_of(tree), {name: values.astype(np.float16) for name, values in files.items()})
    np.testing.assert_array_equal(ids(scan_npy(tree)[0]), before)
