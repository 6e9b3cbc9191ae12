"""Learning a domain after others: what each learner trains on, and what it keeps."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from continual.config import WITH_MEMORY, ContinualConfig, StreamRun
from continual.memory import ReplayMemory
from continual.replay import ReplayBatches
from continual.selection import select
from featstore.batches import iter_batches
from featstore.store import Store
from heads.experiments.config import HeadConfig, make_heads
from heads.fitting import fit
from heads.loop.passes import train
from heads.origins import origin_of
from heads.store_batches import StoreBatches

if TYPE_CHECKING:
    import xarray as xr

Floats = NDArray[np.floating[Any]]
BATCH_SIZE = 4096


class NearestMean:
    """Decides by the nearer of the class means of representations (iCaRL, section 3.1).

    Parameters
    ----------
    head
        A fitted head; ``transform`` gives representations, the features themselves do without it.
    means
        Class means (2, n_components).
    """

    def __init__(self, head: Any, means: Floats) -> None:
        self.origin_ = head.origin_
        self._head, self._means = head, means

    def decision_function(self, X: Floats) -> Floats:
        """Return how much nearer rows are to the second class mean, in squared distance (n,)."""
        Z = represented(self._head, X)
        real, fake = (((Z - mean) ** 2).sum(1) for mean in self._means)
        return np.asarray(real - fake)

    def predict_proba(self, X: Floats) -> Floats:
        """Return the logistic function of the decision values (n, 2); not calibrated."""
        values = self.decision_function(X)
        return np.column_stack((expit(-values), expit(values)))


class StreamLearner:
    """One run: a head that learns domain after domain.

    Parameters
    ----------
    config
        The study.
    run
        Which learner, selection, budget and seed.
    store
        The store.
    """

    def __init__(self, config: ContinualConfig, run: StreamRun, store: Store) -> None:
        self._config, self._run, self._store = config, run, store
        self._rng = np.random.default_rng(run.seed)
        self._learned: list[str] = []
        self._head: Any = None
        self.memory = ReplayMemory()

    def learn(self, domain: str) -> Any:
        """Learn one domain.

        Parameters
        ----------
        domain
            Its name.

        Returns
        -------
        estimator
            What scores rows now.
        """
        present = rows_of(self._config, self._store, [domain], self._config.train)
        self._learned.append(domain)
        head = self._train(self._next_head(), present)
        self._head = head
        if self._run.learner not in WITH_MEMORY:
            return head
        decides = head if self._run.learner == "replay" else self._nearest_mean(present)
        self._remember(present, domain)
        return decides

    def _next_head(self) -> Any:
        """Return the head to train: a new one, or the present one if it can go on."""
        first, changed = self._head is None, self._config.later_params
        if not first and "warm_start" in self._head.get_params() and self._run.learner != "joint":
            return self._head.set_params(warm_start=True, **changed)
        name, params = self._config.head.name, dict(self._config.head.params)
        if self._run.learner == "merge":
            params["keep_moments"] = True
        point = {} if first or self._run.learner in ("joint", "merge") else changed
        (head,) = make_heads(HeadConfig(name, params), [point], self._run.seed)
        return head

    def _train(self, head: Any, present: "xr.Dataset") -> Any:
        """Train on what the learner may see."""
        config = self._config
        if self._run.learner == "joint":
            present = rows_of(config, self._store, self._learned, config.train)
        if self._run.learner in WITH_MEMORY and len(self.memory):
            kept = self.memory.select(self._store, config.layer)
            new, old = (StoreBatches(ds, config.max_memory) for ds in (present, kept))
            train([head], ReplayBatches(new, old, config.memory_batch_size))
            head.origin_ = {**(origin_of(present) or {}), "target": "label"}
            return head
        fit(head, present, max_memory=config.max_memory)
        if self._run.learner == "merge" and self._head is not None:
            return self._head.merge(head)
        return head

    def _remember(self, present: "xr.Dataset", domain: str) -> None:
        """Keep rows of the domain for later."""
        name = str(self._run.selection)
        options = self._config.selection_params.get(name, {})
        Z = self._representations(present)
        labels, keep = present["label"].values, self._run.keep or 1
        chosen = select(name, Z, labels, keep, self._rng, **options)
        how = {"selection": name, "keep": keep, **options, "head": self._config.head.name}
        self.memory.remember(present, chosen, domain, how)
        if self._config.capacity is not None:
            self.memory.shrink(self._config.capacity)

    def _nearest_mean(self, present: "xr.Dataset") -> NearestMean:
        """Return a classifier by class means of the present rows and those kept."""
        sets = [present]
        if len(self.memory):
            sets.append(self.memory.select(self._store, self._config.layer))
        Z = np.concatenate([self._representations(ds) for ds in sets])
        y = np.concatenate([ds["label"].values for ds in sets])
        return NearestMean(self._head, np.stack([Z[y == label].mean(0) for label in (0, 1)]))

    def _representations(self, ds: "xr.Dataset") -> Floats:
        """Return the representations of all rows of a selection, in its order."""
        parts: list[tuple[NDArray[np.int64], Floats]] = [
            (batch.index, represented(self._head, batch.X.reshape(len(batch.X), -1)))
            for batch in iter_batches(ds, BATCH_SIZE, max_memory=self._config.max_memory)
        ]
        Z = np.empty((ds.sizes["sample"], parts[0][1].shape[1]), np.float32)
        for index, values in parts:
            Z[index] = values
        return Z


def represented(head: Any, X: Floats) -> Floats:
    """Return the representations of rows.

    Parameters
    ----------
    head
        A fitted head.
    X
        Features (n_samples, n_features).

    Returns
    -------
    numpy.ndarray
        What ``head.transform`` returns; the features themselves for heads without it.
    """
    return head.transform(X) if hasattr(head, "transform") else X


def rows_of(config: ContinualConfig, store: Store, domains: list[str], split: str) -> "xr.Dataset":
    """Return the rows of domains.

    Parameters
    ----------
    config
        The study, which says what a domain is.
    store
        The store.
    domains
        Names.
    split
        The split.

    Returns
    -------
    xarray.Dataset
        A lazy selection.
    """
    names = list(dict.fromkeys(domains))
    by_dataset = config.domain == "dataset"
    return store.select(
        config.features,
        dataset=names if by_dataset else None,
        generator=None if by_dataset else ["real", *names],
        split=split,
        view=config.view,
        layer=config.layer,
    )
