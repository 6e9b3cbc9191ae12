"""Which rows of a store a domain has, and which of them every step of a stream brings."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from continual.config import ContinualConfig, StreamRun
from continual.streams import Rows, blurred, imbalanced
from featstore.errors import ConfigError, unknown_name
from featstore.layouts import REAL
from featstore.store import Store

if TYPE_CHECKING:
    import xarray as xr


class Domains(NamedTuple):
    """Rows of several domains.

    ``ds`` is a lazy selection of them all and nothing else, ``rows`` the sorted positions in it of
    every domain. Domains that are generators may have real images in common.
    """

    ds: "xr.Dataset"
    rows: dict[str, Rows]

    def select(self, rows: Rows) -> "xr.Dataset":
        """Return some rows, lazily, and without copying what is known of them if they adjoin."""
        if len(rows) and (np.diff(rows) == 1).all():
            return self.ds.isel(sample=slice(int(rows[0]), int(rows[-1]) + 1))
        return self.ds.isel(sample=rows)


class Step(NamedTuple):
    """What is learned at once: ``name`` is that of the domain, numbered if it comes again."""

    domain: str
    name: str
    rows: Rows


def domains_of(config: ContinualConfig, store: Store, names: Sequence[str], split: str) -> Domains:
    """Return the rows of domains.

    Parameters
    ----------
    config
        The study, which says what a domain is, and which features are wanted.
    store
        The store.
    names
        The domains.
    split
        The split.

    Returns
    -------
    Domains
        Each with at least one row.

    Raises
    ------
    ConfigError
        If the store has no such dataset, generator or split.
    """
    wanted = list(dict.fromkeys(names))
    datasets = wanted if config.domain == "dataset" else None
    ds = store.select(
        config.features, dataset=datasets, split=split, view=config.view, layer=config.layer
    )
    kind = config.domain
    known = list(ds.attrs[f"{kind}s"])
    codes, dataset = ds[kind].values, ds["dataset"].values
    rows = {}
    for name in wanted:
        if name not in known:
            raise ConfigError(unknown_name(kind, name, known))
        own = codes == known.index(name)
        if kind == "generator":
            own |= (ds["label"].values == REAL) & np.isin(dataset, np.unique(dataset[own]))
        rows[name] = np.flatnonzero(own)
        if not len(rows[name]):
            raise ConfigError(f"{kind} {name!r} must have rows of split {split!r}, got none.")
    used = np.unique(np.concatenate([*rows.values()]))
    places = {name: np.searchsorted(used, own) for name, own in rows.items()}
    return Domains(Domains(ds, rows).select(used), places)


def steps_of(config: ContinualConfig, run: StreamRun, domains: Domains) -> list[Step]:
    """Return what a stream brings at every step.

    Parameters
    ----------
    config
        The study: imbalance and blur.
    run
        Order and seed.
    domains
        Rows to learn from.

    Returns
    -------
    list of Step
        One per domain of the order. A domain that comes several times brings other rows each time,
        of both classes in equal shares. Which rows a domain brings all in all depends on its name
        and the seed, not on the order.

    Raises
    ------
    ConfigError
        If a step has rows of one class only, or too few for the imbalance.
    """
    labels = domains.ds["label"].values
    parts: dict[str, list[Rows]] = {}
    for name in dict.fromkeys(run.order):
        rows, rng = domains.rows[name], np.random.default_rng((run.seed, *name.encode()))
        if config.ratio is not None:
            rows = rows[imbalanced(labels[rows], config.ratio, rng)]
        parts[name] = _visits(rows, labels, run.order.count(name), rng)
    learned = [(name, run.order[:place].count(name)) for place, name in enumerate(run.order)]
    brought = [parts[name][visit] for name, visit in learned]
    if config.blur:
        together = np.concatenate(brought)
        rng = np.random.default_rng((run.seed, len(brought)))
        mixed = blurred([len(rows) for rows in brought], config.blur, rng)
        brought = [np.unique(together[rows]) for rows in mixed]
    steps = [
        Step(name, f"{name} ({visit + 1})" if visit else name, rows)
        for (name, visit), rows in zip(learned, brought, strict=True)
    ]
    for step in steps:
        if len(found := np.unique(labels[step.rows])) < 2:
            raise ConfigError(
                f"every step must have real and fake rows, got {step.name!r} with labels "
                f"{found.tolist()} only; use other domains or fewer visits."
            )
    return steps


def _visits(
    rows: Rows, labels: NDArray[np.integer], n_visits: int, rng: np.random.Generator
) -> list[Rows]:
    """Divide rows among visits, those of each class equally."""
    if n_visits == 1:
        return [rows]
    shuffled = rng.permutation(rows)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return [np.sort(by_class[visit::n_visits]) for visit in range(n_visits)]
