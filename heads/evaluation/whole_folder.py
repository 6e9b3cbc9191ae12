"""Folders of results that appear whole or not at all."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featstore.durable import TEMPORARY, sync_folder
from featstore.errors import ConfigError, StoreExistsError


def require_free(folder: Path | str, overwrite: bool) -> None:
    """Refuse early to write where something is.

    Parameters
    ----------
    folder
        Folder of the run.
    overwrite
        Whether an existing folder may be moved aside.

    Raises
    ------
    StoreExistsError
        If something is there and must stay.
    ConfigError
        If a folder cannot be made there, as a file has the name of one of its parents.
    """
    above = next(parent for parent in Path(folder).absolute().parents if parent.exists())
    if not above.is_dir():
        raise ConfigError(
            f"'output' must be in a folder, got {str(folder)!r}, but {str(above)!r} is a file; "
            "choose another."
        )
    if Path(folder).exists() and not overwrite:
        raise StoreExistsError(
            f"a run is written to a new folder, got {str(folder)!r}, which exists; choose another "
            "'output', or ask for it to be replaced (the old one is kept beside it)."
        )


@contextmanager
def whole_folder(target: Path | str, *, overwrite: bool = False) -> Iterator[Path]:
    """Make a folder that appears when all of it is written.

    Parameters
    ----------
    target
        Where it will be.
    overwrite
        Move a folder that is there aside, to ``<target>.old-1`` and so on, instead of refusing.

    Yields
    ------
    Path
        The folder to write to; it becomes the target if nothing is raised, and vanishes otherwise.

    Raises
    ------
    StoreExistsError
        If there is something at the target that must stay.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as above, whole_folder(above + "/run") as folder:
    ...     _ = (folder / "note.txt").write_text("done")
    """
    target = Path(target)
    require_free(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.with_name(f".{target.name}.{secrets.token_hex(4)}{TEMPORARY}")
    made.mkdir()
    try:
        yield made
        require_free(target, overwrite)
        if target.exists():
            target.rename(_free_name(target))
        made.rename(target)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    sync_folder(target.parent)


def _free_name(folder: Path) -> Path:
    """Return the first of ``<folder>.old-1``, ``.old-2`` … that does not exist."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    return aside
