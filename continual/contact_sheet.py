"""What a memory holds, to look at: a table of counts, and a sheet of the images kept."""

from pathlib import Path
from typing import TYPE_CHECKING

from featstore.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from continual.memory import ReplayMemory
    from featstore.store import Store

TILE, GAP, BAR = 112, 4, 18
"""Side of a thumbnail, space around it, and height of the caption of a row, in pixels."""
FEWEST = 4
"""Columns of a sheet at least, so that captions have room."""
KINDS = ("real", "fake")


def memory_text(memory: "ReplayMemory") -> str:
    """Return what a memory holds as text.

    Parameters
    ----------
    memory
        A memory.

    Returns
    -------
    str
        A table of rows per domain and class in Markdown, and how they were chosen.
    """
    features = memory.features or {}
    lines = [
        f"{len(memory)} rows of {features.get('features')!r} in {features.get('store')!r}",
        "",
        "| domain | real | fake | generators | chosen by |",
        "|---|---:|---:|---|---|",
    ]
    for domain, rows in memory.rows.groupby("domain", sort=False):
        n_real, n_fake = (int((rows["label"] == label).sum()) for label in (0, 1))
        generators = ", ".join(sorted(set(rows["generator"])))
        how = memory.choices.get(str(domain), {})
        plain = {name: value for name, value in how.items() if not isinstance(value, dict)}
        widths = rows.groupby("label")["sigma"].first().dropna()
        plain |= {f"sigma_{KINDS[y]}": f"{widths[y]:.4g}" for y in widths.index.astype(int)}
        chosen = ", ".join(f"{name}={value}" for name, value in plain.items() if value is not None)
        lines.append(f"| {domain} | {n_real} | {n_fake} | {generators} | {chosen} |")
    return "\n".join(lines)


def contact_sheet(memory: "ReplayMemory", store: "Store", path: Path, per_row: int = 12) -> int:
    """Draw the images that a memory keeps, the first chosen of each domain and class.

    Parameters
    ----------
    memory
        A memory.
    store
        The store, which knows where the images are.
    path
        PNG file to write.
    per_row
        Most images of a domain and class, at least 1.

    Returns
    -------
    int
        How many of the images drawn were not at hand; they are grey.

    Raises
    ------
    ConfigError
        If the memory is empty.
    """
    from PIL import Image, ImageDraw

    if not len(memory):
        raise ConfigError("a contact sheet needs rows, got an empty memory.")
    groups = list(memory.rows.groupby(["domain", "label"], sort=False))
    step = TILE + GAP
    columns = min(per_row, max(FEWEST, *(len(rows) for _, rows in groups)))
    size = (columns * step + GAP, len(groups) * (step + BAR) + GAP)
    sheet, n_missing = Image.new("RGB", size, "white"), 0
    draw = ImageDraw.Draw(sheet)
    for number, ((domain, _), rows) in enumerate(groups):
        top, kind = GAP + number * (step + BAR), KINDS[int(rows["label"].iloc[0])]
        draw.text((GAP, top), f"{domain}: {len(rows)} {kind}", fill="black", font_size=13)
        shown = rows.sort_values("rank").head(columns)
        for place, (_, row) in enumerate(shown.iterrows()):
            thumbnail = _thumbnail(_file_of(store, row))
            n_missing += thumbnail is None
            corner = (GAP + place * step, top + BAR)
            sheet.paste(thumbnail or Image.new("RGB", (TILE, TILE), "lightgrey"), corner)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, "PNG")
    return n_missing


def _file_of(store: "Store", row: "pd.Series[str]") -> Path:
    """Return where the image of a row lies."""
    return Path(store.samples(str(row["dataset"]), str(row["split"])).root, str(row["path"]))


def _thumbnail(path: Path) -> "Image.Image | None":
    """Return a square of an image, or None if there is no readable file."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return ImageOps.fit(image.convert("RGB"), (TILE, TILE))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
