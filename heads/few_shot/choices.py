"""Which layers are reported: every fixed one, the best on validation rows, the oracle's."""

from collections.abc import Sequence

import pandas as pd

from heads.evaluation.tables import MEAN
from heads.evaluation.thresholds import ORACLE, Selection
from heads.few_shot.running import KEY

VAL = "val"


def with_means(episodes: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers of every episode with their means over the datasets of the query.

    Parameters
    ----------
    episodes
        Results of `heads.few_shot.running.run_task`.

    Returns
    -------
    DataFrame
        The same, and where there are several datasets a row ``MEAN`` for each group of rows: the
        unweighted mean of numbers, the sum of ``n_real`` and ``n_fake``.
    """
    if episodes["dataset"].nunique() < 2:
        return episodes
    keys = [*KEY, "seed", "layer"]
    numbers = [name for name in episodes if name not in {*keys, "dataset"}]
    how = {name: "sum" if name in ("n_real", "n_fake") else "mean" for name in numbers}
    means = episodes.groupby(keys, sort=False).agg(how).reset_index().assign(dataset=MEAN)
    return pd.concat([episodes, means], ignore_index=True)


def with_choices(
    episodes: pd.DataFrame, layers: Sequence[str], select_by: str, selection: Selection
) -> pd.DataFrame:
    """Return the rows that are reported, each under the name of the choice that it stands for.

    Parameters
    ----------
    episodes
        Table from `with_means`.
    layers
        Names of the layers; of equally good ones the first is chosen.
    select_by
        The number that decides.
    selection
        ``oracle`` adds the choice on the query itself.

    Returns
    -------
    DataFrame
        With the column ``choice``: every layer by its name; ``val``, the layer of each episode that
        is best on its validation rows, where there are any; and `ORACLE`, the one that is best on
        its query. Nothing is chosen where there is one layer.
    """
    found = [episodes.assign(choice=episodes["layer"])]
    if len(layers) > 1 and f"val_{select_by}" in episodes:
        found.append(_best(episodes, layers, f"val_{select_by}", VAL))
    if len(layers) > 1 and selection == "oracle":
        found.append(_best(episodes, layers, select_by, ORACLE))
    return pd.concat(found, ignore_index=True)


def _best(episodes: pd.DataFrame, layers: Sequence[str], by: str, name: str) -> pd.DataFrame:
    """Return the rows of the layer that is best by one number, in every episode."""
    dataset = MEAN if (episodes["dataset"] == MEAN).any() else episodes["dataset"].iloc[0]
    ranked = episodes[episodes["dataset"] == dataset].pivot(index=KEY, columns="layer", values=by)
    winners = ranked[list(layers)].idxmax(axis=1).rename("layer").reset_index()
    return episodes.merge(winners, on=[*KEY, "layer"]).assign(choice=name)
