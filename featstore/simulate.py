"""Small labelled stores without images, for examples, tests and benchmarks.

The numbers are drawn, not extracted: real and generated rows differ by a shift whose direction is
partly common to all datasets and partly each dataset's own, so that a head transfers imperfectly,
as it does between generators.
"""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featstore import schema
from featstore.feature_group import Block
from featstore.layers import Layer
from featstore.layouts import FAKE, REAL, Record
from featstore.samples import SampleTable, add_records
from featstore.store import GroupKey, Store, create


def simulate_store(  # noqa: PLR0913  sizes of every axis
    path: str | Path,
    *,
    datasets: Sequence[str] = ("a", "b"),
    splits: Sequence[str] = ("train", "val", "test"),
    n_samples: int = 200,
    n_layers: int = 3,
    n_features: int = 16,
    shift: float = 2.0,
    own: float = 0.5,
    offset: float = 0.0,
    seed: int = 0,
) -> Store:
    """Create a store of simulated features.

    Parameters
    ----------
    path
        Where to create it.
    datasets, splits
        Their names; every dataset has every split, and its generator has the dataset's name.
    n_samples
        Rows of each dataset and split, half of them real.
    n_layers, n_features
        Size of one row; layers are named ``block.0 …``; later layers separate better.
    shift
        Distance of the class means in the last layer, in standard deviations.
    own
        Length of the part of the shift that is a dataset's own; the common part has length 1.
    offset
        Distance of the rows of a dataset, real and generated, from the origin, in a direction of
        its own.
    seed
        Seed of everything drawn.

    Returns
    -------
    Store
        A store with the feature set ``simulated``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = simulate_store(folder + "/s.zarr", n_samples=10)
    ...     store.select(dataset="a", split="train", layer="block.2")["cls"].shape
    (10, 1, 16)
    """
    store = create(path)
    layers = [Layer(f"block.{i}", "block", i, n_features) for i in range(n_layers)]
    fingerprint = store.register("simulated", "clean", {"simulated": {"seed": seed}}, layers)
    rng = np.random.default_rng(seed)
    common = _unit(rng, n_features)
    for dataset in datasets:
        direction = common + own * _unit(rng, n_features)
        place = offset * _unit(rng, n_features) if offset else 0.0
        for split in splits:
            records = [_record(dataset, split, i) for i in range(n_samples)]
            table = add_records(store.path, records, Path("/simulated"))
            group = store.require(
                GroupKey("simulated", "clean", dataset, split), layers, fingerprint
            )
            for number in range(group.n_blocks):
                rows = group.rows_of(number)
                labels = table.rows("label", slice(rows.start, rows.stop))
                gain = shift * np.linspace(0.2, 1, n_layers)[:, None] * direction
                values = rng.normal(size=(len(rows), n_layers, n_features)) + place
                values += (labels[:, None, None] - 0.5) * gain
                group.write(_block(number, values.astype(np.float16), table, rows), {"seed": seed})
    return store


def _unit(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    vector = rng.normal(size=n)
    return vector / np.linalg.norm(vector)


def _record(dataset: str, split: str, number: int) -> Record:
    label = FAKE if number % 2 else REAL
    path = Path(f"/simulated/{split}/{dataset}/{label}/{number // 2}.png")
    generator = dataset if label == FAKE else "real"
    return Record(path, label, generator, dataset, split, pair=f"{split}/{number // 2}")


def _block(number: int, values: NDArray[np.float16], table: SampleTable, rows: range) -> Block:
    paths = table.rows("path", slice(rows.start, rows.stop))
    ids = [
        blake2b(str(path).encode(), digest_size=schema.SAMPLE_ID_BYTES).digest() for path in paths
    ]
    return Block(
        number,
        {"cls": values},
        np.frombuffer(b"".join(ids), np.uint8).reshape(-1, schema.SAMPLE_ID_BYTES),
        np.zeros((len(rows), len(schema.FACTS)), np.int64),
        {},
    )
