"""The contrastive head: its optimisation step by step, what it keeps, and what it is good for."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from support.checks import Interrupted, Interruption

import heads
from featstore.simulate import simulate_store
from featstore.store import Store
from heads.checkpoints import Checkpoint
from heads.contrastive.head import SCORERS, HierarchicalContrastiveHead
from heads.contrastive.training import EmbeddedRows
from heads.loop.batch_source import ArrayBatches, Pass, RowBatch
from heads.loop.passes import train
from heads.losses.hierarchical import Embeddings, hierarchical_contrastive

TRACE = 1e-5
"""Relative; five steps in float32 against float64, or against another order of sums."""

Floats = NDArray[Any]
Rows = tuple[Floats, NDArray[Any], NDArray[Any]]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def quick(**settings: Any) -> HierarchicalContrastiveHead:
    defaults: dict[str, Any] = {
        "n_components": 4, "batch_size": 32, "max_iter": 3, "learning_rate": 0.01,
        "scoring": "linear", "device": "cpu",
    }  # fmt: skip
    return HierarchicalContrastiveHead(**{**defaults, **settings})


def generators(n: int = 240, *, nuisance: float = 0.3, seed: int = 0) -> Rows:
    """Real rows and those of three generators: means in 6 directions, nuisance in 10 others."""
    rng = np.random.default_rng(seed)
    group = np.where(np.arange(n) % 2 == 0, 0, 1 + np.arange(n) // 2 % 3)
    means = 2 * np.eye(6)[:4] - 0.5
    X = np.hstack(
        (means[group] + 0.3 * rng.normal(size=(n, 6)), nuisance * rng.normal(size=(n, 10)))
    )
    return X, (group > 0).astype(int), group


# ------------------------------------------------------------------ the optimisation


def reference_term(
    a: Floats, positive: Floats, negative: Floats, temperature: float
) -> tuple[float, Floats]:
    """One term of the loss and its derivative by the similarities, in NumPy."""
    s = a @ a.T / temperature
    n_positive = np.maximum(positive.sum(1), 1)
    m = (s * positive).sum(1) / n_positive
    weights = np.exp(s) * negative
    total = np.exp(m) + weights.sum(1)
    counted = negative.any(1)
    value = (np.log(total) - m)[counted].mean() if counted.any() else 0.0
    by_s = weights / total[:, None] + positive * ((np.exp(m) / total - 1) / n_positive)[:, None]
    return value, by_s * counted[:, None] / max(counted.sum(), 1) / temperature


def reference_trace(
    X: Floats, source: Floats, W: Floats, rates: list[float]
) -> tuple[Floats, Floats]:
    """AdamW on a linear map W, full batches: (total, coarse, fine, gradient norm, rate), last W."""
    W, first, second = W.astype(np.float64), 0.0, 0.0
    label = source > 0
    itself, same_class = np.eye(len(X), dtype=bool), label[:, None] == label
    both, same_source = label[:, None] & label, source[:, None] == source
    history = []
    for step, rate in enumerate(rates, start=1):
        z = X @ W.T
        length = np.linalg.norm(z, axis=1, keepdims=True)
        a = z / length
        coarse, by_coarse = reference_term(a, same_class & ~itself, ~same_class, 0.07)
        fine, by_fine = reference_term(a, both & same_source & ~itself, both & ~same_source, 0.07)
        by_a = (by_coarse + by_fine) @ a
        gradient = ((by_a - a * (a * by_a).sum(1, keepdims=True)) / length).T @ X
        norm = np.linalg.norm(gradient)
        history.append((coarse + fine, coarse, fine, norm, rate))
        gradient = gradient / max(1.0, norm)
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
        unbiased = first / (1 - 0.9**step), second / (1 - 0.99**step)
        W = W * (1 - rate * 1e-4) - rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-6)
    return np.array(history), W


def trace(X: Floats, source: Floats, W: Floats) -> tuple[Floats, Floats]:
    """The same by the head's trainer."""
    n = len(X)
    head = quick(
        adapter_params={"bias": False}, n_components=len(W), batch_size=n, max_iter=5,
        learning_rate=3e-3, warmup=0.4,
    )  # fmt: skip
    rows = ArrayBatches(X, (source > 0).astype(int), groups=source)
    (trainer,) = HierarchicalContrastiveHead.trainers([head], rows)
    trainer.module.load_state_dict({"weight": torch.tensor(W)})  # type: ignore[attr-defined]
    history = []
    for _ in range(5):
        trainer.consume(RowBatch(X, (source > 0).astype(np.intp), np.arange(n)), {})
        trainer.end_pass(None)
        (group,) = trainer.optimiser.param_groups  # type: ignore[attr-defined]
        history.append((float(trainer.gradient_norm), group["lr"]))  # type: ignore[attr-defined]
    (_, ended) = head.history_names, trainer.state()
    assert ended is not None
    return np.hstack((ended["history"][:, :3], history)), ended["module/weight"]


RATES = [1.5e-3, 3e-3, 3e-3, 2.375e-3, 1.125e-3]
"""Two steps of warm-up to 3e-3, then half a cosine of three steps down to 5e-4."""


def test_training__equals_adamw_written_in_numpy() -> None:
    rng = np.random.default_rng(0)
    X, source, W = rng.normal(size=(40, 9)), rng.integers(0, 4, 40), 0.3 * rng.normal(size=(5, 9))
    history, weight = trace(X.astype(np.float32), source, W.astype(np.float32))
    expected_history, expected_weight = reference_trace(X, source, W, RATES)
    assert expected_history[:, 3].max() > 1  # so that gradients are clipped
    assert_allclose(history, expected_history, rtol=TRACE)
    assert_allclose(weight, expected_weight, rtol=TRACE, atol=TRACE * np.abs(W).max())


def test_training__equals_the_public_code(shared: Callable[[str], Path]) -> None:
    with np.load(shared("vectors/fiser.npz")) as vectors:
        X, source, W = (vectors[name] for name in ("loss_feat", "loss_src", "ad_w0"))
        recorded = [vectors[name] for name in ("ad_hist", "ad_w5") if name in vectors]
    if not recorded:
        recorded = [*reference_trace(X.astype(np.float64), source, W, RATES)]
    for found, expected in zip(trace(X, source, W), recorded, strict=True):
        assert_allclose(found, expected, rtol=TRACE, atol=TRACE * np.abs(expected).max())


def test_bank__holds_the_embeddings_of_earlier_batches_of_the_epoch() -> None:
    X, y, group = generators(24)
    settings: dict[str, Any] = {"sampling": "rows", "batch_size": 10, "max_iter": 2}
    head = quick(**settings, bank_size=12, n_components=16, learning_rate=1e-30)
    head.fit(X, y, groups=group)
    rows = Embeddings(*map(torch.from_numpy, (X.astype(np.float32), y, group, np.arange(24))))
    for epoch in range(2):
        losses, bank = [], rows.first(0)
        for batch in ArrayBatches(X, y).batches(Pass(10, 0, epoch)):
            index = torch.from_numpy(batch.index)
            anchors = Embeddings(*(column[index] for column in rows))
            bank = anchors.followed_by(bank)
            losses += [np.array(hierarchical_contrastive(anchors, bank))] * len(index)
            bank = bank.first(12)
        assert_allclose(head.history_[epoch, :3], np.mean(losses, 0), rtol=TRACE)


# ------------------------------------------------------------------ what it is good for


def generator_accuracy(bank: Floats, queries: Floats, group: Floats, wanted: Floats) -> float:
    knn = KNeighborsClassifier(5, metric="cosine").fit(bank, group)
    return float(knn.score(queries, wanted))


@pytest.mark.parametrize("adapter", ["linear", "mlp"])
def test_embedding__shows_generators_that_raw_cosine_neighbours_miss(adapter: str) -> None:
    (X, y, group), (Q, truth, wanted) = (generators(400, nuisance=6.0, seed=i) for i in (0, 1))
    head = quick(
        adapter=adapter, n_components=None, batch_size=100, max_iter=40, learning_rate=0.05
    ).fit(X, y, groups=group)
    assert generator_accuracy(X, Q, group, wanted) < 0.6
    assert generator_accuracy(head.transform(X), head.transform(Q), group, wanted) > 0.9
    assert roc_auc_score(truth, head.decision_function(Q)) > 0.95


def test_fine_term__separates_generators_that_labels_do_not_tell_apart() -> None:
    (X, y, group), (Q, _, wanted) = (generators(400, nuisance=6.0, seed=i) for i in (0, 1))
    fake, wanted_fake = group > 0, wanted > 0
    accuracy = {}
    for weight in (0.0, 1.0):
        head = quick(
            n_components=2, batch_size=100, max_iter=40, learning_rate=0.05, fine_weight=weight
        )
        bank, queries = (head.fit(X, y, groups=group).transform(rows) for rows in (X, Q))
        accuracy[weight] = generator_accuracy(
            bank[fake], queries[wanted_fake], group[fake], wanted[wanted_fake]
        )
    assert accuracy[1.0] > accuracy[0.0] + 0.4


# ------------------------------------------------------------------ generators and sampling


def test_fit__without_generators_has_no_fine_term() -> None:
    X, y, group = generators()
    assert_array_equal(quick().fit(X, y).history_[:, 2], 0)
    assert np.all(quick().fit(X, y, groups=group).history_[:, 2] > 0)


def test_fit__does_not_look_at_generators_of_real_rows() -> None:
    X, y, group = generators()
    names = np.where(y == 0, np.char.add("camera", (np.arange(len(y)) % 5).astype(str)), group)
    expected = quick(sampling="class").fit(X, y, groups=group)
    found = quick(sampling="class").fit(X, y, groups=names)
    assert_array_equal(found.history_, expected.history_)
    assert_array_equal(found.adapter_["weight"], expected.adapter_["weight"])


@pytest.mark.parametrize(("known", "expected"), [(True, "generator"), (False, "class")])
def test_sampling__is_balanced_as_far_as_generators_are_known(known: bool, expected: str) -> None:
    X, y, group = generators()
    rows = ArrayBatches(X, y, groups=group if known else None)
    (trainer,) = HierarchicalContrastiveHead.trainers([quick()], rows)
    assert trainer.next_pass() == Pass(32, 0, 0, expected)  # type: ignore[arg-type]


def test_rate__falls_to_the_end_of_an_epoch_of_pairs() -> None:
    X, pair = generators(160)[0], np.arange(160) // 4  # one real image to three fakes
    source = ArrayBatches(X, (np.arange(160) % 4 > 0).astype(int), pairs=pair)
    head = quick(sampling="pair", max_iter=1, warmup=0.0, final_rate=0.0)
    (trainer,) = HierarchicalContrastiveHead.trainers([head], source)
    n_steps = len(list(source.batches(trainer.next_pass())))  # type: ignore[arg-type]
    rates = [trainer.rate(0, step) for step in range(n_steps + 1)]  # type: ignore[attr-defined]
    assert rates[-2] > rates[-1] == 0


# ------------------------------------------------------------------ scoring and selection


@pytest.mark.parametrize("scoring", SCORERS)
@pytest.mark.parametrize("adapter", ["linear", "mlp", "rine"])
def test_scorer__is_that_of_the_embeddings(adapter: str, scoring: str) -> None:
    X, y, group = generators()
    head = quick(adapter=adapter, scoring=scoring).fit(X, y, groups=group)
    Z = head.transform(X)
    assert_allclose(np.linalg.norm(Z, axis=1), 1, rtol=1e-6)
    alone = SCORERS[scoring]().fit(Z, y)
    assert_allclose(head.decision_function(X), alone.decision_function(Z), rtol=1e-6, atol=1e-6)


def test_embedded_rows__are_a_source_of_unit_embeddings() -> None:
    X, y, group = generators()
    rows = ArrayBatches(X, y, groups=group)
    (trainer,) = HierarchicalContrastiveHead.trainers([quick()], rows)
    embedded = EmbeddedRows(trainer, rows)  # type: ignore[arg-type]
    batches = list(embedded.batches(Pass(100)))
    assert [batch.X.shape for batch in batches] == [(100, 4), (100, 4), (40, 4)]
    assert embedded.n_features == 4
    assert_allclose(np.linalg.norm(batches[2].X, axis=1), 1)
    assert_array_equal(embedded.counts(), [120, 120])


def test_scorers__that_differ_alone_share_one_adapter() -> None:
    X, y, group = generators()
    settings: list[dict[str, Any]] = [
        {"scoring": "knn"}, {"scoring": "knn", "scoring_params": {"k": 3}}, {"scoring": "linear"},
        {"scoring": "prototype"}, {"scoring": "svm"}, {"scoring": "linear", "temperature": 0.2},
    ]  # fmt: skip
    together = [quick(**own) for own in settings]
    rows = ArrayBatches(X, y, groups=group)
    trainers = HierarchicalContrastiveHead.trainers(together, rows)
    assert [len(trainer.members) for trainer in trainers] == [5, 1]
    train(together, rows)
    for head, own in zip(together, settings, strict=True):
        alone = quick(**own).fit(X, y, groups=group)
        assert_array_equal(head.decision_function(X), alone.decision_function(X))


def test_members__have_weights_of_their_own() -> None:
    X, y, group = generators()
    members = [quick(), quick(scoring="prototype")]
    train(members, ArrayBatches(X, y, groups=group))
    assert not np.shares_memory(*(head.adapter_["weight"] for head in members))


def test_scorer__takes_its_hyper_parameters() -> None:
    head = quick(scoring_params={"C": 0.25}).fit(*generators()[:2])
    assert head.scorer_.get_params()["C"] == 0.25


class Recorder:
    """A checkpoint that remembers the adapter after every pass."""

    def __init__(self) -> None:
        self.weights: list[Floats] = []

    def load(self, trainers: Any) -> None: ...

    def save(self, trainers: Any) -> None:
        self.weights.append(trainers[0].state()["module/weight"].copy())


@pytest.mark.parametrize("selection", ["validation", "last"])
def test_selection__keeps_the_adapter_of_the_epoch_it_names(selection: str) -> None:
    X, _, _ = generators(60)
    labels = np.random.default_rng(0).integers(0, 2, (2, 60))  # nothing that could be learned
    head, recorder = quick(max_iter=8, selection=selection), Recorder()
    train(
        [head],
        ArrayBatches(X, labels[0]),
        ArrayBatches(X[::-1], labels[1]),
        checkpoint=recorder,  # type: ignore[arg-type]
    )
    precision = head.history_[:, 3]
    if selection == "validation":
        best = np.flatnonzero(precision == precision.max())[-1] + 1
        assert head.selected_epoch_ == best < 8
    else:
        assert head.selected_epoch_ == 8
        assert np.isnan(precision).all()
    assert_array_equal(head.adapter_["weight"], recorder.weights[head.selected_epoch_ - 1])


def test_history_names__name_every_column() -> None:
    head = quick().fit(*generators()[:2])
    assert len(HierarchicalContrastiveHead.history_names) == head.history_.shape[1]


@pytest.mark.parametrize("n_passes", range(1, 8))
def test_training__goes_on_after_an_interruption_in_any_pass(n_passes: int, tmp_path: Path) -> None:
    X, y, _ = generators(60)
    shuffled = np.random.default_rng(0).permutation(
        y
    )  # not learned, so that no epoch is like another
    validation = ArrayBatches(X, y)
    settings: dict[str, Any] = {"adapter": "mlp", "bank_size": 20, "max_iter": 4}
    expected, found = quick(**settings), quick(**settings)
    train([expected], ArrayBatches(X, shuffled), validation)
    checkpoint = Checkpoint(tmp_path / "state")
    with contextlib.suppress(Interruption):
        rows = Interrupted(X, shuffled, n_passes)
        train([quick(**settings)], rows, validation, checkpoint=checkpoint)
    train([found], ArrayBatches(X, shuffled), validation, checkpoint=checkpoint)
    assert_array_equal(found.history_, expected.history_)
    assert_array_equal(found.decision_function(X), expected.decision_function(X))


# ------------------------------------------------------------------ many heads, layers, the store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two generators that are easily told from real rows, in three layers."""
    folder = tmp_path_factory.mktemp("store")
    return simulate_store(folder / "s.zarr", shift=6.0, splits=("train", "test"))


def test_training__of_different_heads_together_equals_single_fits() -> None:
    X, y, group = generators()
    settings: list[dict[str, Any]] = [
        {}, {"temperature": 0.5}, {"adapter": "mlp"}, {"batch_size": 50, "bank_size": 20},
        {"adapter": "rine", "random_state": 3},
    ]  # fmt: skip
    together = [quick(**own) for own in settings]
    train(together, ArrayBatches(X, y, groups=group))
    for head, own in zip(together, settings, strict=True):
        alone = quick(**own).fit(X, y, groups=group)
        assert_array_equal(head.decision_function(X), alone.decision_function(X))


@pytest.mark.parametrize("adapter", ["linear", "mlp", "rine"])
def test_fit__from_the_store_sees_layers_and_generators(adapter: str, store: Store) -> None:
    head = heads.fit(quick(adapter=adapter, max_iter=5), store.select(split="train"))
    assert head.layers_ == [16, 16, 16]
    assert np.all(head.history_[:, 2] > 0)
    test = store.select(split="test")
    rows = test["cls"].values.reshape(test.sizes["sample"], -1).astype(np.float32)
    assert roc_auc_score(test["label"].values, head.decision_function(rows)) > 0.9


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scoring": "tree"}, "'scoring' parameter"),
        ({"scoring_params": {"gamma": 1}}, "Invalid parameter 'gamma'"),
        ({"scoring_params": {"C": -1}}, "'C' parameter of LogisticProbe must be"),
        ({"adapter": "mlp", "adapter_params": {"hiden": 3}}, r"did you mean 'hidden'\?"),
        ({"adapter_params": {"bias": "no"}}, "'bias' parameter of adapter='linear' must be"),
        ({"n_components": 0}, "'n_components' parameter"),
        ({"sampling": "pair"}, "needs the pair of every row"),
    ],
)
def test_fit__refuses_illegal_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quick(**settings).fit(*generators()[:2])


def test_fit__that_diverges_says_so() -> None:
    with pytest.raises(
        ValueError, match=r"(?s)must be finite.* after epoch 3 .*lower 'learning_rate'"
    ):
        quick(learning_rate=1e5, weight_decay=1e20).fit(*generators()[:2])


def test_rine_adapter__refuses_layers_of_different_widths() -> None:
    X, y, _ = generators()
    source = ArrayBatches(X, y)
    source.layers = (10, 6)
    with pytest.raises(ValueError, match=r"layers of one width, got \(10, 6\)"):
        train([quick(adapter="rine")], source)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers_": [16.0]}, "'layers_' must be widths whose sum is 16"),
        ({"layers_": [8, 4]}, r"whose sum is 16, got \[8, 4\]"),
        ({"adapter_": None}, "'adapter_' must hold finite float32 arrays, got None"),
        ({"adapter_": {"weight": np.zeros((4, 16))}}, "finite float32 arrays"),
        ({"adapter_": {"weight": np.zeros((4, 16), "f")}}, "must have the shapes"),
        ({"n_components": 5}, r"'scorer_' must have features and classes \(5, \[0, 1\]"),
        ({"adapter": "mlp", "adapter_params": {"hidden": 10**19}}, "of a size that can be"),
        ({"scorer_": None}, "'scorer_' must be a LogisticProbe, got None"),
        ({"classes_": np.array([0, 2])}, r"'scorer_' must have features and classes \(4, \[0, 2\]"),
    ],
)
def test_check_learned__names_what_is_wrong(change: dict[str, Any], message: str) -> None:
    head = quick().fit(*generators()[:2])
    head.check_learned()
    vars(head).update(change)
    with pytest.raises(ValueError, match=message):
        head.check_learned()
