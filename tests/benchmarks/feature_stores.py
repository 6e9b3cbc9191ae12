"""Stores of made-up features, written as fast as the disk allows."""

from pathlib import Path

import numpy as np

import featstore
from featstore import Store, schema
from featstore.feature_group import Block
from featstore.layers import Layer
from featstore.layouts import FAKE, REAL, Record
from featstore.samples import add_records
from featstore.store import GroupKey


def write_store(
    path: Path, *, n_rows: int, n_layers: int, width: int, vit_like: bool = False
) -> Store:
    """Write one dataset and split of normal numbers whose mean depends on the label a little.

    They are independent, or correlated and partly far from zero as in the residual stream of a ViT.
    """
    store = featstore.create(path)
    layers = [Layer(f"block.{i}", "block", i, width) for i in range(n_layers)]
    fingerprint = store.register("made-up", "clean", {}, layers)
    records = [_record(i) for i in range(n_rows)]
    table = add_records(store.path, records, Path("/made-up"))
    group = store.require(GroupKey("made-up", "clean", "a", "train"), layers, fingerprint)
    labels = table.column("label")
    rng = np.random.default_rng(0)
    shape = (group.block_rows, n_layers, width)
    noise = rng.standard_normal(shape, np.float32)
    if vit_like:
        spectrum = np.arange(1, width + 1, dtype=np.float32) ** -0.5
        mixing = rng.standard_normal((width, width), np.float32) / np.linalg.norm(spectrum)
        noise = (noise * spectrum) @ mixing
        noise[..., :4] += 25
    noise = noise.astype(np.float16)
    direction = (0.1 * rng.standard_normal(width)).astype(np.float16)
    for number in range(group.n_blocks):
        rows = group.rows_of(number)
        values = np.roll(noise, number, axis=1 if vit_like else 2)[: len(rows)]
        values[labels[rows.start : rows.stop] == 1] += direction
        ids = rng.integers(0, 256, (len(rows), schema.SAMPLE_ID_BYTES), np.uint8)
        facts = np.zeros((len(rows), len(schema.FACTS)), np.int64)
        group.write(Block(number, {"cls": values}, ids, facts, {}), {})
    return store


def _record(number: int) -> Record:
    label = FAKE if number % 2 else REAL
    generator = "a" if label == FAKE else "real"
    return Record(Path(f"/made-up/{number}.png"), label, generator, "a", "train")
