"""The README's blocks run: the shell block through the command line, then the Python block."""

import re
import shlex

import pytest
from conftest import REPOSITORY
from support.images import write_tree

import cli

README = (REPOSITORY / "README.md").read_text()
MAX_LINES = 200


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_readme__is_short():
    assert len(README.splitlines()) < MAX_LINES


def test_readme__make_targets_exist():
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = re.findall(r"\bmake ([a-z]+)", README)
    assert targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_readme__every_block_is_of_a_known_kind():
    languages = re.findall(r"^```(\w*)$", README, re.MULTILINE)
    assert set(languages[::2]) <= {"sh", "bash", "python", "text"}


@pytest.mark.slow
def test_readme__blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = write_tree(tmp_path / "images", 40, side=256)
    (images / "val").mkdir()
    (images / "val" / "a").symlink_to(
        write_tree(tmp_path / "more", 20, side=256, seed=1) / "train/a"
    )
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    (shell,) = blocks("bash")
    for line in shell.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "featstore"
        assert cli.main(arguments) == 0, (line, capsys.readouterr().err)
    (python,) = blocks("python")
    exec(compile(python, "README.md", "exec"), {})
    assert "(1, " in capsys.readouterr().out
