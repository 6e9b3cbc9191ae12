"""Learning that is held to what a head said before."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from continual.config import ContinualConfig
from continual.distillation import TaughtBatches
from continual.domains import Step
from continual.learners.fine_tune import FineTune
from continual.learners.replay import Replay
from continual.replay import DarkReplayBatches
from featstore.errors import ConfigError
from heads.loop.batch_source import BatchSource

if TYPE_CHECKING:
    import xarray as xr


class LearningWithoutForgetting(FineTune):
    """Trains on the present rows, held to what the head before said of them.

    Li, Hoiem, "Learning without forgetting", ECCV 2016.
    """

    name: ClassVar[str] = "lwf"
    options: ClassVar[Mapping[str, float]] = {"weight": 1.0, "temperature": 2.0}

    @classmethod
    def check(cls, config: ContinualConfig, head: Any) -> None:
        """Refuse heads that cannot be taught; see `FineTune.check`."""
        super().check(config, head)
        require_lessons(cls.name, config, head)

    def trained(self, step: Step) -> Any:
        """Return the head after training on a step."""
        if self.head is None:
            return super().trained(step)
        rows = self.domains.select(step.rows)
        settings = {name: self.option(name) for name in self.options}
        source = TaughtBatches(self.batches(rows), self.head, **settings)
        return self.fit_batches(self.next_head(), source, rows)


class DarkExperienceReplay(Replay):
    """Replay, held to what the head said of the rows kept when they were kept.

    DER++: Buzzega et al., "Dark experience for general continual learning", NeurIPS 2020.
    """

    name: ClassVar[str] = "der_pp"
    options: ClassVar[Mapping[str, float]] = {"alpha": 0.5, "beta": 0.5}

    @classmethod
    def check(cls, config: ContinualConfig, head: Any) -> None:
        """Refuse heads that cannot be taught; see `FineTune.check`."""
        super().check(config, head)
        require_lessons(cls.name, config, head)

    def replayed(self, present: "xr.Dataset", kept: "xr.Dataset") -> BatchSource:
        """Return the batches of present rows and those kept, with what was said of them."""
        return DarkReplayBatches(
            self.batches(present),
            self.batches(kept),
            self.config.memory_batch_size,
            logits=kept["logit"].values,
            alpha=self.option("alpha"),
            beta=self.option("beta"),
        )


def require_lessons(learner: str, config: ContinualConfig, head: Any) -> None:
    """Refuse heads that cannot be held to decision values.

    Parameters
    ----------
    learner
        Name of the learner, for the message.
    config
        The study.
    head
        Its head, not yet fitted.

    Raises
    ------
    ConfigError
        If the head takes no gradient steps, or there may be more than two classes. Heads whose
        steps do not depend on their decision values are found when they are trained.
    """
    if "learning_rate" not in head.get_params() or config.target != "label":
        raise ConfigError(
            f"learner {learner!r} needs a head of real and fake that is trained by gradient steps "
            f"on logits, such as 'hsic_probe', got {config.head.name!r} and target "
            f"{config.target!r}."
        )
