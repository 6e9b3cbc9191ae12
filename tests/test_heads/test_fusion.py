"""Fusion rules against published numbers and exact arithmetic; fused runs on simulated stores."""

from dataclasses import replace
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from support.vectors import stored

from featstore.errors import ConfigError, StoreExistsError
from featstore.simulate import simulate_store
from heads import HEADS
from heads.evaluation import runs
from heads.evaluation.runs import read_run
from heads.experiments.training import HeadConfig, RowsConfig, TrainConfig, run_train
from heads.fusion.rules import RULES, RuleFusion, StackedFusion, fuse
from heads.fusion.run import FusionConfig, fit_stack, run_fusion
from heads.fusion.scored_runs import aligned, read_scored

PUBLISHED = 1e-12  # both are float64
EXACT = 1e-13  # relative, against 60 decimal digits
SAME_OPTIMUM = 1e-5  # two solvers of one convex problem


@pytest.mark.parametrize("rule", list(RULES))
def test_fuse__reproduces_the_public_code(rule: Any) -> None:
    vectors = stored("fusion")
    fused = fuse(vectors["fusion_x"], rule)
    np.testing.assert_allclose(fused, vectors[f"fusion_{rule}"], rtol=PUBLISHED, atol=PUBLISHED)


def exactly(rule: str, logits: list[float]) -> Decimal:
    """The rule in 700 digits, enough for 1 - σ(-800)."""
    x = [Decimal(value) for value in logits]
    fakes, reals = [1 / (1 + (-v).exp()) for v in x], [1 / (1 + v.exp()) for v in x]
    if rule == "lse_logit":
        return sum(v.exp() for v in x).ln()
    if rule == "mean_prob":
        return (sum(fakes) / sum(reals)).ln()
    product = Decimal(1)
    for real in reals:
        product *= real
    return ((1 - product) / product).ln()


@pytest.mark.parametrize("rule", ["lse_logit", "mean_prob", "soft_or_prob"])
@pytest.mark.parametrize(
    "logits",
    [
        [-800.0, -800.0],
        [-800.0, 3.0, 800.0],
        [800.0, 790.0],
        [-40.0, -36.9, -37.1],
        [-0.8, -0.6],
        [-0.5, -0.4],
        [0.3, -2.0, -5.0],
        [30.0, 35.0],
    ],
)
def test_fuse__is_exact_for_logits_of_any_size(rule: Any, logits: list[float]) -> None:
    with localcontext() as context:
        context.prec = 1500
        expected = float(exactly(rule, logits))
    assert fuse([logits], rule)[0] == pytest.approx(expected, rel=EXACT, abs=EXACT)


@pytest.mark.parametrize("rule", list(RULES))
def test_fuse__one_head_is_left_as_it_is_and_order_does_not_matter(rule: Any) -> None:
    x = np.random.default_rng(0).normal(size=(30, 4)) * 10
    np.testing.assert_allclose(fuse(x[:, :1], rule), x[:, 0], rtol=EXACT, atol=EXACT)
    np.testing.assert_allclose(fuse(x[:, ::-1], rule), fuse(x, rule), rtol=EXACT, atol=EXACT)


def test_fuse__refuses_what_are_no_scores() -> None:
    with pytest.raises(ValueError, match="'rule' must be one of"):
        fuse([[1.0, 2.0]], "mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape \(n_samples, n_heads\)"):
        fuse([1.0, 2.0])
    with pytest.raises(ValueError, match="finite"):
        fuse([[1.0, np.inf]])


def test_rule_fusion__decides_by_its_rule() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3))
    head = RuleFusion(rule="soft_or_prob").fit(x, np.arange(20) % 2)
    np.testing.assert_array_equal(head.decision_function(x), fuse(x, "soft_or_prob"))
    np.testing.assert_allclose(
        head.predict_proba(x)[:, 1], 1 - np.prod(1 / (1 + np.exp(x)), axis=1)
    )


def test_stacked_fusion__equals_logistic_regression_on_scaled_scores() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = rng.normal(size=(200, 3)) * [1, 100, 0.01] + y[:, None] * [1, 50, 0]
    scaler = StandardScaler().fit(x)
    expected = LogisticRegression(tol=1e-10).fit(scaler.transform(x), y)
    head = StackedFusion().fit(x, y)
    np.testing.assert_allclose(head.coef_ * scaler.scale_, expected.coef_, atol=SAME_OPTIMUM)
    assert head.get_params()["standardize"] is True


def test_fit_stack__takes_validation_rows_alone() -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"split": ["val"] * 10, "label": np.arange(10) % 2})
    assert fit_stack(rows, rng.normal(size=(10, 2))).coef_.shape == (1, 2)
    for split in ("train", "test"):
        wrong = rows.assign(split=["val"] * 9 + [split])
        with pytest.raises(ConfigError, match=rf"rows of \['val'\], got rows of \['{split}'\]"):
            fit_stack(wrong, rng.normal(size=(10, 2)))
    with pytest.raises(ConfigError, match=r"stacked rule: .*one class"):
        fit_stack(rows.assign(label=0), rng.normal(size=(10, 2)))


def frame(names: str, scores: list[float], **changes: Any) -> pd.DataFrame:
    rows = {"dataset": "a", "split": "test", "generator": "real", "label": 0, "pair": -1}
    given = {"path": list(names), "sample_id": list(names), "score": scores}
    return pd.DataFrame({**given, **rows, **changes})


def test_aligned__matches_images_whatever_their_order() -> None:
    samples, scores = aligned({"a": frame("xyz", [1, 2, 3]), "b": frame("zxy", [30, 10, 20])})
    np.testing.assert_array_equal(scores, [[1, 10], [2, 20], [3, 30]])
    assert samples["path"].tolist() == list("xyz")
    assert "score" not in samples


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (frame("xy", [1, 2]), "got 1 of 'a' that 'b' lacks and 0 the other way round"),
        (frame("xyw", [1, 2, 3]), "got 1 of 'a' that 'b' lacks and 1 the other way round"),
        (frame("xyzz", [1, 2, 3, 4]), "one score in a run, got 1 rows of 'b'"),
        (frame("xyz", [1, 2, 3], label=1), "one label"),
        (frame("xyz", [1, 2, 3], dataset="b"), "same images"),
        (frame("xyz", [1, 2, 3], sample_id=list("xyw")), "same images"),
    ],
)
def test_aligned__refuses_other_images(other: pd.DataFrame, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        aligned({"a": frame("xyz", [1, 2, 3]), "b": other})


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fusions be saved, and draw nothing: the plots of a run are tested with its folder."""
    for name, kind in (("rule_fusion", RuleFusion), ("stacked_fusion", StackedFusion)):
        monkeypatch.setitem(HEADS, name, kind)
    for name in ("plot_roc", "plot_scores"):
        monkeypatch.setattr(runs, name, lambda scores, path: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three trainings: on two layers, and on one of them without validation rows."""
    folder = tmp_path_factory.mktemp("fusion")
    simulate_store(folder / "s.zarr", n_samples=60, n_layers=2)
    config = TrainConfig(
        store=str(folder / "s.zarr"),
        head=HeadConfig("logistic_probe"),
        train=RowsConfig("train"),
        val=RowsConfig("val"),
        test=RowsConfig("test"),
        layer="block.0",
        output=str(folder / "first"),
        bootstrap=0,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in ("plot_roc", "plot_scores"):
            patch.setattr(runs, name, lambda scores, path: None)
        run_train(config)
        run_train(replace(config, layer="block.1", output=str(folder / "second")))
        run_train(replace(config, val=None, output=str(folder / "unvalidated")))
    return folder


def fusion(trained: Path, output: Path, *names: str, **changes: Any) -> FusionConfig:
    return FusionConfig(
        [str(trained / name) for name in names or ("first", "second")],
        str(output / "fused"),
        **{"bootstrap": 0, **changes},
    )


def test_run_fusion__equals_the_steps_by_hand(trained: Path, tmp_path: Path) -> None:
    run = run_fusion(fusion(trained, tmp_path, rule="mean_prob", bootstrap=100))
    first, second = (read_run(trained / name).scores for name in ("first", "second"))
    expected = (first["probability"] + second["probability"]) / 2
    np.testing.assert_allclose(run.scores["probability"], expected)
    table = run.metrics.set_index(["dataset", "generator"])
    own = first["dataset"] == "a"
    auroc = roc_auc_score(first["label"][own], expected[own])
    assert table.loc[("a", "a"), "auroc"] == pytest.approx(auroc)
    low, high = table.loc[("a", "a"), ["auroc_low", "auroc_high"]]
    assert low <= auroc <= high


def test_run_fusion__stacks_on_validation_rows(trained: Path, tmp_path: Path) -> None:
    run = run_fusion(fusion(trained, tmp_path, rule="stacked"))
    val = [read_run(trained / name).validation for name in ("first", "second")]
    X, y = np.column_stack([frame["score"] for frame in val]), val[0]["label"]
    np.testing.assert_allclose(run.head.coef_, StackedFusion().fit(X, y).coef_)
    assert "fitted on 120 validation rows" in run.record["chosen"][0]
    assert run.record["rows"]["val"][0] == {
        "dataset": "a", "split": "val", "n_real": 30, "n_fake": 30,
    }  # fmt: skip


def test_run_fusion__is_a_run_like_others(trained: Path, tmp_path: Path) -> None:
    config = fusion(trained, tmp_path, rule="max_logit")
    run = run_fusion(config)
    again = read_run(config.output)
    pd.testing.assert_frame_equal(again.scores, run.scores)
    assert again.head.get_params() == {"rule": "max_logit"}
    assert again.record["store"]["layers"] == config.runs
    known = read_run(trained / "first").trained_on
    assert set(again.trained_on["sample_id"]) == set(known["sample_id"])
    assert "max_logit" in (Path(config.output) / "report.md").read_text()
    with pytest.raises(StoreExistsError):
        run_fusion(config)
    more = fusion(trained, tmp_path / "more", rule="mean_logit")
    refused = run_fusion(replace(more, runs=[*config.runs, config.output]))
    assert len(refused.record["store"]["layers"]) == 3


def test_run_fusion__takes_files_of_scores(trained: Path, tmp_path: Path) -> None:
    files = [str(trained / name / "scores.parquet") for name in ("first", "second")]
    run = run_fusion(replace(fusion(trained, tmp_path), runs=files))
    expected = run_fusion(fusion(trained, tmp_path / "folders"))
    np.testing.assert_array_equal(run.scores["score"], expected.scores["score"])
    assert run.record["thresholds"] == {"0.5": 0.0}
    lacking = tmp_path / "lacking.parquet"
    pd.read_parquet(files[0]).drop(columns="pair").to_parquet(lacking)
    broken = tmp_path / "broken.parquet"
    broken.write_text("scores")
    for path, message in ((lacking, r"without \['pair'\]"), (broken, "must be a Parquet file")):
        with pytest.raises(ConfigError, match=message):
            run_fusion(replace(fusion(trained, tmp_path / "x"), runs=[files[0], str(path)]))


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (("first",), {}, "at least two different runs"),
        (("first", "first"), {}, "at least two different runs"),
        (("first", "unvalidated"), {"rule": "stacked"}, "got none for .*unvalidated"),
        (("first", "second"), {"bootstrap": 5}, "at least 100 resamples"),
    ],
)
def test_run_fusion__refuses(
    trained: Path, tmp_path: Path, names: Any, changes: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_fusion(fusion(trained, tmp_path, *names, **changes))
    assert not (tmp_path / "fused").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": np.nan}, r"'score' of every row .* must be a finite number, got 'nan' in row 0"),
        ({"score": np.inf}, "'score' of every row"),
        ({"score": "high"}, "'score' of every row .* got 'high' in row 0"),
        ({"label": 2}, r"'label' of every row .* must be 0 \(real\) or 1 \(fake\)"),
        ({"pair": np.nan}, "'pair' of every row .* -1 for none"),
    ],
)
def test_read_scored__refuses_files_that_no_rule_can_fuse(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    rows = frame("xyz", [1, 2, 3], **changes)
    rows.to_parquet(tmp_path / "scores.parquet")
    with pytest.raises(ConfigError, match=message):
        read_scored(str(tmp_path / "scores.parquet"))


def test_run_fusion__refuses_to_report_validation_rows(trained: Path, tmp_path: Path) -> None:
    config = fusion(trained, tmp_path, rule="stacked")
    for name in config.runs:
        folder = tmp_path / Path(name).name
        folder.mkdir()
        for file in Path(name).iterdir():
            (folder / file.name).symlink_to(file)
        (folder / "scores.parquet").unlink()
        scores = pd.read_parquet(Path(name) / "val_scores.parquet")
        scores.assign(split="test").to_parquet(folder / "scores.parquet")
    copies = [str(tmp_path / Path(name).name) for name in config.runs]
    with pytest.raises(ConfigError, match="chosen on and reported, got 120 validation rows"):
        run_fusion(replace(config, runs=copies))
