"""Names as folders."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featstore.errors import ConfigError
from featstore.schema import LONGEST_FOLDER, folder_name, plain_name


@given(st.binary(min_size=1, max_size=60))
def test_folder_name__every_name_of_the_disk_comes_back(raw):
    name = os.fsdecode(raw)
    folder = folder_name(name)
    assert plain_name(folder) == name
    assert folder.isascii()
    assert "/" not in folder
    assert not folder.startswith(".")


def test_folder_name__too_long():
    assert len(folder_name("a" * LONGEST_FOLDER)) == LONGEST_FOLDER
    for name in ("a" * (LONGEST_FOLDER + 1), "ü" * 40):
        with pytest.raises(ConfigError, match="must be shorter"):
            folder_name(name)


def test_folder_name__empty():
    with pytest.raises(ConfigError, match="needs a name"):
        folder_name("")
