"""Few-shot studies: heads learned from a handful of images, over many random draws of them.

An episode draws a few images of every class or generator (the support), trains each head on each
layer of them, and scores every other row (the query). `episodes` says which rows, `running` trains
and scores, `choices` picks layers, `summary` puts intervals around means; `protocol` is all of it.
"""

from heads.few_shot.config import FewShotConfig
from heads.few_shot.episodes import fiser_support
from heads.few_shot.protocol import FewShot, run_few_shot

__all__ = ["FewShot", "FewShotConfig", "fiser_support", "run_few_shot"]
