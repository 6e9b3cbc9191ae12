"""What learns domain after domain; every learner makes a head that learns at once one that goes on.

`FineTune` is the base: it trains on the rows of the present step alone, going on from its weights
if the head can. The others see more rows, are held to what was known, or decide otherwise.
"""

from continual.learners.distillation import DarkExperienceReplay, LearningWithoutForgetting
from continual.learners.fine_tune import FineTune
from continual.learners.joint import Joint, Merge
from continual.learners.replay import NearestMeanReplay, Replay

__all__ = ["LEARNERS", "FineTune"]

LEARNERS: dict[str, type[FineTune]] = {
    kind.name: kind
    for kind in (
        Replay,
        NearestMeanReplay,
        FineTune,
        Joint,
        Merge,
        LearningWithoutForgetting,
        DarkExperienceReplay,
    )
}
"""Every learner by its name in configurations."""
