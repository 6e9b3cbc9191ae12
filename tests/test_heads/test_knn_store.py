"""Neighbours between selections of the store equal neighbours between arrays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import heads
from featstore.errors import ConfigError, FingerprintError
from featstore.simulate import simulate_store
from featstore.store import Store
from heads.evaluation.knn_scores import score_knn, sweep_k
from heads.evaluation.scoring import COLUMNS, score
from heads.neighbours.knn import KNNHead

FLOAT32 = 1e-5  # products are float32, blocks differ
FLOAT64 = 1e-12
ONE_SWAP = 1e-3  # of two rows whose scores differ by rounding
RULES = ["legacy", "exponential", "two_banks"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return simulate_store(tmp_path_factory.mktemp("store") / "s.zarr", n_samples=150, shift=1.0)


@pytest.fixture
def rows(store: Store) -> Callable[[str], Any]:
    return lambda split: store.select(split=split, layer=["block.1", "block.2"])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("max_memory", ["2GB", "150kB"])
def test_score_knn__equals_a_head_with_the_bank(rows: Any, rule: Any, max_memory: str) -> None:
    expected = score(heads.fit(KNNHead(k=7, rule=rule), rows("train")), rows("test"))
    readings: list[tuple[int, int]] = []
    frame = score_knn(
        KNNHead(k=7, rule=rule, max_bank=1),
        rows("test"),
        rows("train"),
        max_memory=max_memory,
        progress=lambda *done: readings.append(done),
    )
    assert tuple(frame.columns) == COLUMNS
    for column in ("score", "probability"):
        np.testing.assert_allclose(frame[column], expected[column], rtol=0, atol=FLOAT32)
    assert frame["sample_id"].tolist() == expected["sample_id"].tolist()
    n_readings, n_read = readings[-1]
    assert n_read == 300
    assert n_readings == 1 if max_memory == "2GB" else n_readings > 3


@pytest.mark.parametrize("rule", RULES)
def test_sweep_k__equals_one_head_for_each_k(rows: Any, rule: Any) -> None:
    table = sweep_k(KNNHead(k=6, rule=rule), rows("val"), rows("train"))
    expected = []
    for k in range(1, 7):
        frame = score_knn(KNNHead(k=k, rule=rule), rows("val"), rows("train"))
        expected.append(roc_auc_score(frame["label"], frame["score"]))
    np.testing.assert_allclose(table["auroc"], expected, rtol=0, atol=FLOAT64)
    assert table["k"].tolist() == [1, 2, 3, 4, 5, 6]
    assert table.loc[table["chosen"], "k"].tolist() == [int(table["auroc"].argmax()) + 1]


def test_sweep_k__reads_the_bank_as_often_as_memory_asks_for(rows: Any) -> None:
    at_once = sweep_k(KNNHead(k=6), rows("val"), rows("train"))
    in_parts = sweep_k(KNNHead(k=6), rows("val"), rows("train"), max_memory="150kB")
    np.testing.assert_allclose(in_parts["auroc"], at_once["auroc"], rtol=0, atol=ONE_SWAP)


def test_sweep_k__does_not_choose_on_test_rows_but_as_an_oracle(rows: Any) -> None:
    with pytest.raises(ConfigError, match=r"the number of neighbours must be chosen .*'test'"):
        sweep_k(KNNHead(k=3), rows("test"), rows("train"))
    table = sweep_k(KNNHead(k=3), rows("test"), rows("train"), selection="oracle")
    assert table.columns.tolist() == ["k", "ORACLE_auroc", "chosen"]


def test_sweep_k__needs_both_classes(rows: Any) -> None:
    real = rows("val").isel(sample=rows("val")["label"].values == 0)
    with pytest.raises(ConfigError, match=r"needs real and fake rows, got labels \[0\]"):
        sweep_k(KNNHead(k=3), real, rows("train"))


def test_sweep_k__selection_is_val_or_oracle(rows: Any) -> None:
    choice: Any = "test"
    with pytest.raises(ConfigError, match="'val' or 'oracle', got 'test'"):
        sweep_k(KNNHead(k=3), rows("val"), rows("train"), selection=choice)


def test_score_knn__refuses_rows_that_are_in_the_bank(rows: Any) -> None:
    with pytest.raises(ConfigError, match="must not be those of 'bank', got 10 common rows"):
        score_knn(KNNHead(), rows("train").isel(sample=slice(10)), rows("train"))


def test_score_knn__refuses_other_features(rows: Any, tmp_path: Path) -> None:
    other = simulate_store(tmp_path / "other.zarr", n_samples=20, seed=1).select(split="test")
    with pytest.raises(FingerprintError, match="rows to be scored must have"):
        score_knn(KNNHead(), other, rows("train"))


def test_score_knn__refuses_a_bank_of_one_class_or_none(rows: Any) -> None:
    bank = rows("train")
    with pytest.raises(ConfigError, match=r"two classes, got label \[0\] only"):
        score_knn(KNNHead(), rows("test"), bank.isel(sample=bank["label"].values == 0))
    with pytest.raises(ConfigError, match="a bank must be at least one row"):
        score_knn(KNNHead(), rows("test"), bank.isel(sample=[]))
    with pytest.raises(ConfigError, match="rows to be scored must be at least one row"):
        score_knn(KNNHead(), rows("test").isel(sample=[]), bank)


def test_score_knn__checks_hyper_parameters(rows: Any) -> None:
    with pytest.raises(ValueError, match="'k' parameter of KNNHead"):
        score_knn(KNNHead(k=0), rows("test"), rows("train"))
