"""Learning the present domain alone; the base of all learners."""

from collections.abc import Mapping
from copy import deepcopy
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from continual.config import ContinualConfig, StreamRun
from continual.domains import Domains, Step
from continual.memory import ReplayMemory
from featstore.errors import ConfigError
from featstore.store import Store
from featstore.typed_values import Key, convert
from heads.experiments.config import make_heads
from heads.fitting import fit
from heads.loop.batch_source import BatchSource
from heads.loop.passes import train
from heads.loop.views import View
from heads.origins import origin_of
from heads.store_batches import StoreBatches

if TYPE_CHECKING:
    import xarray as xr


class FineTune:
    """Trains on the present rows alone.

    Parameters
    ----------
    config
        The study.
    run
        Seed, selection and budget.
    store
        The store.
    domains
        Rows to learn from.
    start
        A head that has learned the first step; None to train one.
    """

    name: ClassVar[str] = "fine_tune"
    has_memory: ClassVar[bool] = False
    starts_from_head: ClassVar[bool] = True
    """Whether a head that has learned the first step can stand for learning it."""
    options: ClassVar[Mapping[str, float]] = {}
    """Options of the learner and their defaults."""

    def __init__(
        self,
        config: ContinualConfig,
        run: StreamRun,
        store: Store,
        domains: Domains,
        start: Any = None,
    ) -> None:
        self.config, self.run, self.store, self.domains = config, run, store, domains
        self.rng = np.random.default_rng(run.seed)
        self.memory = ReplayMemory()
        self.head: Any = None
        self._start = start

    @classmethod
    def check(cls, config: ContinualConfig, head: Any) -> None:
        """Refuse a head that the learner cannot do with, or options that it does not have.

        Parameters
        ----------
        config
            The study.
        head
            Its head, not yet fitted.

        Raises
        ------
        ConfigError
            If it cannot.
        """
        given = config.learner_params.get(cls.name, {})
        if unknown := sorted(set(given) - set(cls.options)):
            raise ConfigError(
                f"options of learner {cls.name!r} must be among {sorted(cls.options)}, got "
                f"{unknown}."
            )
        for name, value in given.items():
            number = convert(value, float, Key("learner_params", f"{cls.name}.{name}"))
            if not (isfinite(number) and number >= 0):
                raise ConfigError(
                    f"options of learner {cls.name!r} must be finite numbers >= 0, got {name!r}: "
                    f"{value!r}."
                )

    def option(self, name: str) -> float:
        """Return an option of the learner."""
        return float(self.config.learner_params.get(self.name, {}).get(name, self.options[name]))

    def learn(self, step: Step) -> Any:
        """Learn one step.

        Parameters
        ----------
        step
            What it brings.

        Returns
        -------
        estimator
            What decides on rows now.
        """
        if self.head is None and self._start is not None:
            self.head = deepcopy(self._start)
        else:
            self.head = self.trained(step)
        return self.head

    def trained(self, step: Step) -> Any:
        """Return the head after training on a step."""
        return self.fit(self.next_head(), self.domains.select(step.rows))

    def next_head(self) -> Any:
        """Return the head to train: the present one if it can go on, or a new one."""
        later = self.config.later_params
        new = self.new_head({} if self.head is None else later)
        if self.head is None or "warm_start" not in new.get_params():
            return new
        changed = {name: getattr(new, name) for name in later}
        return deepcopy(self.head).set_params(**{"warm_start": True, **changed})

    def new_head(self, changed: Mapping[str, Any]) -> Any:
        """Return a head that knows nothing."""
        (head,) = make_heads(self.config.head, [changed], self.run.seed)
        return head

    def fit(self, head: Any, rows: "xr.Dataset") -> Any:
        """Train a head on rows of the store."""
        return fit(head, rows, target=self.config.target, max_memory=self.config.max_memory)

    def fit_batches(self, head: Any, source: BatchSource, rows: "xr.Dataset") -> Any:
        """Train a head on batches made of rows of the store and others."""
        train([head], source, views=[View(target=self.config.target)])
        head.origin_ = {**(origin_of(rows) or {}), "target": self.config.target}
        return head

    def batches(self, rows: "xr.Dataset") -> StoreBatches:
        """Return the batches of rows."""
        return StoreBatches(rows, self.config.max_memory)
