"""The pages in docs: Python blocks run, and what they refer to is there."""

import re
from pathlib import Path

import pytest
from conftest import REPOSITORY

PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_docs__python_blocks_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(block, str(page), "exec"), {})


@pytest.mark.parametrize("page", [*PAGES, REPOSITORY / "README.md"], ids=name_of)
def test_docs__links_and_configurations_exist(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert all((page.parent / link).exists() for link in links)
    assert all((REPOSITORY / name).exists() for name in re.findall(r"configs/[\w/]+\.yaml", text))
