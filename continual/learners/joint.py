"""Learning from all rows so far: by training anew, or by adding moments."""

from typing import Any, ClassVar

import numpy as np

from continual.config import ContinualConfig
from continual.domains import Step
from continual.learners.fine_tune import FineTune
from continual.streams import Rows
from featstore.errors import ConfigError
from heads.experiments.config import HeadConfig, make_heads


class Joint(FineTune):
    """Trains anew on all rows so far: the upper reference, which keeps everything.

    Real images that several domains have in common count as often, as they do step by step.
    """

    name: ClassVar[str] = "joint"
    _seen: Rows = np.empty(0, np.int64)

    def learn(self, step: Step) -> Any:
        """Learn one step; see `FineTune.learn`."""
        self._seen = np.sort(np.concatenate([self._seen, step.rows]))
        return super().learn(step)

    def trained(self, step: Step) -> Any:
        """Return a new head trained on all rows so far."""
        return self.fit(self.new_head({}), self.domains.select(self._seen))


class Merge(FineTune):
    """Adds the moments of a closed-form head: equals `Joint` for any order, without its cost.

    RanPAC (McDonnell et al., NeurIPS 2023) with `heads.RandomFeatureRidge`; deep streaming LDA
    (Hayes, Kanan, CVPR workshops 2020) with `heads.StreamingLDA`.
    """

    name: ClassVar[str] = "merge"
    starts_from_head: ClassVar[bool] = False

    @classmethod
    def check(cls, config: ContinualConfig, head: Any) -> None:
        """Refuse heads without moments; see `FineTune.check`."""
        super().check(config, head)
        if not hasattr(head, "merge"):
            raise ConfigError(
                f"learner 'merge' needs a closed-form head such as 'ridge_probe', got "
                f"{config.head.name!r}."
            )

    def learn(self, step: Step) -> Any:
        """Learn one step; see `FineTune.learn`."""
        self.head = self.trained(step)
        return self.head

    def trained(self, step: Step) -> Any:
        """Return the head with the moments of a step added."""
        name, params = self.config.head.name, {**self.config.head.params, "keep_moments": True}
        (head,) = make_heads(HeadConfig(name, params), [{}], self.run.seed)
        self.fit(head, self.domains.select(step.rows))
        return head if self.head is None else self.head.merge(head)
