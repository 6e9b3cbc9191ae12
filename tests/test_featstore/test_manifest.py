"""Tables of images as a layout."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from featstore.errors import ConfigError
from featstore.layouts import FAKE, REAL
from featstore.layouts.manifest import scan_manifest


def write(folder: Path, text: str, name: str = "sd3.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        scan_manifest(path, **options)
    return str(caught.value)


def test_manifest__path_and_label_are_enough(tmp_path: Path) -> None:
    found = scan_manifest(write(tmp_path, "path,label\nb.jpg,1\n/data/a.png,0\n"))
    assert found.ignored == []
    assert [tuple(record) for record in found.records] == [
        (Path("/data/a.png"), REAL, "real", "sd3", "all", "", {}),
        (tmp_path / "b.jpg", FAKE, "sd3", "sd3", "all", "", {}),
    ]


def test_manifest__all_understood_columns(tmp_path: Path) -> None:
    text = "label,path,split,dataset,generator,pair\nReal,a,val,d,,p\nfake,b,val,d,gan,p\n"
    assert [tuple(record)[1:6] for record in scan_manifest(write(tmp_path, text)).records] == [
        (REAL, "real", "d", "val", "p"),
        (FAKE, "gan", "d", "val", "p"),
    ]


def test_manifest__pair_id_is_a_pair(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pd.DataFrame({"path": ["a", "b"], "label": [0, 1], "pair_id": [7, 7]}).to_parquet(path)
    records = scan_manifest(path).records
    assert [record.pair for record in records] == ["7", "7"]
    assert dict(records[0].metadata) == {}


def test_manifest__root_dataset_and_split_given(tmp_path: Path) -> None:
    text = "path,label,dataset\na.png,fake,old\n"
    [record] = scan_manifest(
        write(tmp_path, text), root=Path("/images"), dataset="new", split="test"
    ).records
    assert tuple(record)[:5] == (Path("/images/a.png"), FAKE, "new", "new", "test")
    assert "dataset" not in record.metadata


def test_metadata__types_are_uniform_per_column(tmp_path: Path) -> None:
    text = (
        "path,label,n,real,holes,text,zeros,mixed,flag\n"
        "a,0,1,1e-4,,x,007,1,True\n"
        "b,1,-2,2,5,,010,one,False\n"
    )
    first, second = (record.metadata for record in scan_manifest(write(tmp_path, text)).records)
    assert math.isnan(first["holes"])
    assert second["holes"] == 5.0
    names = ("n", "real", "text", "zeros", "mixed", "flag")
    assert [first[name] for name in names] == [1, 1e-4, "x", "007", "1", "True"]
    assert [second[name] for name in names] == [-2, 2.0, "", "010", "one", "False"]
    assert [type(value) for value in first.values()] == [type(value) for value in second.values()]


def test_metadata__quotes_commas_and_newlines(tmp_path: Path) -> None:
    text = 'path,label,licence\n"a, b.jpg",0,"two ""lines"":\nMIT"\n'
    [record] = scan_manifest(write(tmp_path, text)).records
    assert record.path.name == "a, b.jpg"
    assert record.metadata["licence"] == 'two "lines":\nMIT'


def test_metadata__csv_equals_parquet_and_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "path": [f"{i:03}.png" for i in range(50)],
            "label": [i % 2 for i in range(50)],
            "width": range(50),
            "quality": [i / 7 for i in range(50)],
            "camera": pd.Categorical(["x" if i % 3 else "y" for i in range(50)]),
        }
    )
    frame.to_csv(tmp_path / "m.csv", index=False)
    frame.to_parquet(tmp_path / "m.parquet")
    expected = frame[["width", "quality", "camera"]].to_dict("records")
    for name in ("m.csv", "m.parquet"):
        records = scan_manifest(tmp_path / name).records
        assert [dict(record.metadata) for record in records] == expected
        assert [record.label for record in records] == list(frame["label"])


def test_parquet__nulls_and_other_types(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "path": ["a", "b"],
            "label": ["real", "fake"],
            "n": pd.array([1, None], dtype="Int64"),
            "flag": [True, False],
            "day": pd.to_datetime(["2025-01-01", "2025-01-02"]).date,
            "note": ["x", None],
        }
    )
    frame.to_parquet(tmp_path / "m.parquet")
    second = scan_manifest(tmp_path / "m.parquet").records[1].metadata
    assert math.isnan(second["n"])
    assert [second[name] for name in ("flag", "day", "note")] == [0, "2025-01-02", ""]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("a,0,real,d,s\n,1,g,d,s", "row 2: 'path' is missing"),
        ("a,,g,d,s", "row 1: 'label' is missing"),
        ("a,1,,d,s", "row 1: 'generator' is missing"),
        ("a,1,g,,s", "row 1: 'dataset' is missing"),
        ("a,1,g,d,", "row 1: 'split' is missing"),
        ("a,2,g,d,s", "row 1: 'label' must be 0, 1, 'real' or 'fake', got '2'"),
        ("a,0,ffhq,d,s", "row 1: label '0' contradicts generator 'ffhq'"),
        ("a,fake,real,d,s", "row 1: label 'fake' contradicts generator 'real'"),
        ("a,1,g,d,s\n./a,1,g,d,t", "row 2: path './a' is listed a second time"),
    ],
)
def test_problems__name_row_and_value(tmp_path: Path, rows: str, problem: str) -> None:
    path = write(tmp_path, f"path,label,generator,dataset,split\n{rows}\n")
    assert problem in refused(path)


def test_problems__same_file_in_two_datasets_is_none(tmp_path: Path) -> None:
    path = write(tmp_path, "path,label,dataset\na,0,d1\na,0,d2\n")
    assert len(scan_manifest(path).records) == 2


def test_problems__the_first_five_are_collected(tmp_path: Path) -> None:
    message = refused(write(tmp_path, "path,label\n" + "a,x\n" * 9))
    assert [f"row {i}:" in message for i in (1, 5, 6)] == [True, True, False]


def test_problems__split_against_the_table(tmp_path: Path) -> None:
    path = write(tmp_path, "path,label,split\na,0,train\n")
    assert "row 1: split 'train' contradicts the split 'test'" in refused(path, split="test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na,0\n", "must have a column 'path', got ['file', 'label']"),
        ("path,label\n", "got no row at all"),
        ("", "cannot be read: Empty CSV file"),
        ("path,label\na,0,1\n", "Expected 2 columns, got 3"),
        ("path,label,label\na,0,1\n", "unique names"),
        (",path,label\n0,a,0\n", "index=False"),
        ("path,label,a/b\nx,0,1\n", "without '/'"),
    ],
)
def test_table__that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(write(tmp_path, text))


def test_table__byte_order_mark_is_skipped(tmp_path: Path) -> None:
    assert len(scan_manifest(write(tmp_path, "\ufeffpath,label\na,0\n")).records) == 1


def test_table__not_utf8(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"path,label\n\xff.png,0\n")
    assert "cannot be read" in refused(tmp_path / "m.csv")


def test_table__nested_parquet_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": ["a"], "label": [0], "box": [{"x": 1}]})
    frame.to_parquet(tmp_path / "m.parquet")
    assert "cannot be read" in refused(tmp_path / "m.parquet")


@pytest.mark.parametrize("name", ["absent.csv", "m.txt", "."])
def test_table__no_such_file_or_kind(tmp_path: Path, name: str) -> None:
    write(tmp_path, "path,label\na,0\n", "m.txt")
    assert name.strip(".") in refused(tmp_path / name)
