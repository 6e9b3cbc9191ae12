"""The numbers of one head on rows apart from its support."""

import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from featstore.errors import ConfigError
from heads.few_shot.judging import NEAREST, Judged, Rows, by_dataset, validated

EXACT = 1e-12  # the same sums in another order


@pytest.fixture
def judged(rng) -> Judged:
    """Rows of three datasets, the last without fakes; every fifth is linked to the support."""
    n_rows = 300
    datasets = rng.integers(0, 3, n_rows)
    labels = rng.integers(0, 2, n_rows) * (datasets < 2)
    rows = xr.Dataset(
        coords={"label": ("sample", labels), "dataset": ("sample", datasets)},
        attrs={"datasets": ["a", "b", "c"]},
    )
    scores = labels * np.array([2.0, 0.5, 0.0])[datasets] + rng.normal(size=n_rows)
    scores[::5] = 100 * (1 - 2 * labels[::5])  # wrong as can be, if they counted
    units = np.arange(n_rows)
    return Judged(scores, Rows(rows, units), units[::5])


def kept(judged: Judged) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, labels and datasets of the rows that count."""
    rows = ~np.isin(judged.rows.units, judged.learned)
    ds = judged.rows.features
    return judged.scores[rows], ds["label"].values[rows], ds["dataset"].values[rows]


def test_by_dataset__equals_scikit_learn_on_the_rows_kept(judged: Judged) -> None:
    scores, labels, datasets = kept(judged)
    records = {record["dataset"]: record for record in by_dataset(judged, {"val": 0.3})}
    assert list(records) == ["a", "b"]
    for code, name in enumerate(records):
        y, s = labels[datasets == code], scores[datasets == code]
        record = records[name]
        assert record["auroc"] == pytest.approx(roc_auc_score(y, s), abs=EXACT)
        expected = balanced_accuracy_score(y, s > 0.3)
        assert record["balanced_accuracy@val"] == pytest.approx(expected, abs=EXACT)
        assert (record["n_real"], record["n_fake"]) == ((y == 0).sum(), (y == 1).sum())


def test_validated__mean_over_datasets_and_the_threshold_of_all_rows(judged: Judged) -> None:
    scores, labels, datasets = kept(judged)
    quality, threshold = validated(judged, "auroc")
    areas = [roc_auc_score(labels[datasets == d], scores[datasets == d]) for d in (0, 1)]
    assert quality == pytest.approx(np.mean(areas), abs=EXACT)
    reached = balanced_accuracy_score(labels, scores > threshold)
    best = max(balanced_accuracy_score(labels, scores > score) for score in scores)
    assert reached == pytest.approx(best, abs=EXACT)


def test_validated__nothing_left_to_choose_on(judged: Judged) -> None:
    fakes = np.flatnonzero(judged.rows.features["label"].values)
    with pytest.raises(ConfigError, match="needs real and fake validation rows in one dataset"):
        validated(judged._replace(learned=fakes), "auroc")


def test_by_dataset__nearest_is_the_nearest_corner_of_the_curve(judged: Judged) -> None:
    scores, labels, datasets = kept(judged)
    found = [record[NEAREST] for record in by_dataset(judged, {}, nearest=True)]
    for code, own in enumerate(found):
        false_alarms, rates, _ = roc_curve(labels[datasets == code], scores[datasets == code])
        distances = [abs(rate - 0.05) for rate in false_alarms]
        assert own == rates[distances.index(min(distances))]
