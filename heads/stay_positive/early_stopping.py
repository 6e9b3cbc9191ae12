"""When to lower a learning rate and when to end, judged by a score on validation rows."""

from dataclasses import dataclass, field
from typing import NamedTuple

REDUCTION = 10
"""What the rate is divided by when patience has run out."""

LEAST_IMPROVEMENT = 0.001
"""How much better than the best score so far is better."""

LOWEST_RATE = 1e-6
"""A lower rate ends the training."""


class Verdict(NamedTuple):
    """What follows from the score of an epoch: keep its weights, lower the rate, end."""

    saved: bool
    dropped: bool
    stopped: bool


@dataclass
class EarlyStopping:
    """Patience, and a rate that is lowered when it has run out.

    Parameters
    ----------
    best
        Score before the training, which the first epoch has to improve on.
    rate
        Learning rate at the beginning, > 0.
    patience
        Epochs without improvement, at least 1, that lower the rate by a factor of 10.

    Attributes
    ----------
    countdown : int
        Epochs without improvement that are still tolerated.
    stopped : bool
        Whether the training is over, as the next rate would be below 1e-6.

    References
    ----------
    Wang et al., "CNN-generated images are surprisingly easy to spot… for now", CVPR 2020, whose
    rule Rajan et al., "Aligned datasets improve detection of latent diffusion-generated images",
    ICLR 2025, and Rajan and Lee, "Stay-Positive", ICML 2025, train with.

    Examples
    --------
    >>> stopping = EarlyStopping(best=0.5, rate=1e-5, patience=2)
    >>> for score in (0.8, 0.8005, 0.8):
    ...     print(stopping.judge(score), stopping.rate)
    Verdict(saved=True, dropped=False, stopped=False) 1e-05
    Verdict(saved=False, dropped=False, stopped=False) 1e-05
    Verdict(saved=False, dropped=True, stopped=False) 1.0000000000000002e-06
    """

    best: float
    rate: float
    patience: int
    countdown: int = field(init=False)
    stopped: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.countdown = self.patience

    def judge(self, score: float) -> Verdict:
        """Take the score of the next epoch.

        Parameters
        ----------
        score
            The higher the better.

        Returns
        -------
        Verdict
            What to do; `rate` is that of the epoch that follows.
        """
        if score > self.best + LEAST_IMPROVEMENT:
            self.best, self.countdown = score, self.patience
            return Verdict(saved=True, dropped=False, stopped=False)
        self.countdown -= 1
        if self.countdown > 0:
            return Verdict(saved=False, dropped=False, stopped=False)
        self.rate /= REDUCTION
        self.stopped = self.rate < LOWEST_RATE
        if not self.stopped:
            self.countdown = self.patience
        return Verdict(saved=False, dropped=not self.stopped, stopped=self.stopped)
