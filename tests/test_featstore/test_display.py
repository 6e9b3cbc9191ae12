"""What people read."""

import pandas as pd
import pytest

from featstore.display import estimate_text, findings_text, table_text, unreadable_text
from featstore.extract import Estimate, Unreadable
from featstore.verify import Finding


def test_table_text__brackets_are_text():
    text = table_text(pd.DataFrame({"[b]name": ["[fake]", "[/x]"], "n": [1000, 2]}))
    header, _, *rows = text.splitlines()
    assert header.split() == ["[b]name", "n"]
    assert [row.split() for row in rows] == [["[fake]", "1,000"], ["[/x]", "2"]]


def test_estimate_text__is_never_negative():
    text = estimate_text(Estimate("f", 10, 30, -400, -3.0, []))
    assert "10 images found, 10 already present, 0 to extract" in text
    assert "0 B of features, about 0 s" in text


def test_unreadable_text__names_every_image():
    images = [Unreadable("a", "train", f"{i}.png", "empty file") for i in range(30)]
    lines = unreadable_text({"f/clean/a/train": images, "f/clean/a/test": []}).splitlines()
    assert lines[0] == "f/clean/a/train: 30 unreadable"
    assert lines[1:] == [f"  {i}.png: empty file" for i in range(30)]
    assert unreadable_text({"g": []}) == "every image is readable"


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (
            Finding("damaged", "f/clean/a/train", 3, "bad"),
            "  damaged: f/clean/a/train block 3: bad",
        ),
        (Finding("broken", "samples/a/train", -1, "bad"), "  broken: samples/a/train: bad"),
        (Finding("leftover", "", -1, "x.partial"), "  leftover: x.partial"),
    ],
)
def test_findings_text__names_the_place(finding, line):
    assert findings_text([finding], repaired=False).splitlines()[1] == line
