"""What an attribution study is asked to do, as data; the YAML files have these keys."""

from dataclasses import dataclass, field
from typing import Literal

from heads.experiments.config import Names, RowsConfig


@dataclass(frozen=True)
class AttributionConfig:
    """Which generators to tell apart by what, and where to report it.

    Parameters
    ----------
    store
        The store.
    train, test
        Rows to learn from and rows to report. Real images are one more generator, ``real``, where
        they are selected.
    output
        Folder of the study.
    val
        Rows whose images of known generators set the threshold of rejection.
    unknown
        Generators, names or globs, that are kept from training and validation, and are to be
        rejected in the test.
    shrinkage, rejection_rate
        Hyper-parameters of `heads.attribution.head.GeneratorAttribution`.
    features
        Feature set; may be left out when the store holds one.
    view
        View of all rows.
    layer
        Layers; all if left out.
    seed
        Seed of the bootstrap.
    max_memory
        Limit of the reader.
    bootstrap
        Number of resamples behind each interval, at least 100; 0 leaves the intervals out.
    overwrite
        Whether an existing folder is moved aside.
    """

    store: str
    train: RowsConfig
    test: RowsConfig
    output: str
    val: RowsConfig | None = None
    unknown: list[str] = field(default_factory=list)
    shrinkage: float | Literal["ledoit_wolf"] = "ledoit_wolf"
    rejection_rate: float = 0.05
    features: str | None = None
    view: str = "clean"
    layer: Names = None
    seed: int = 0
    max_memory: str = "2GB"
    bootstrap: int = 1000
    overwrite: bool = False
