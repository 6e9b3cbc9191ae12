"""RINEHead: its training against a plain torch loop and published steps, and its blocks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

import heads
from featstore.simulate import simulate_store
from heads.checkpoints import Checkpoint
from heads.evaluation import score
from heads.loop.batch_source import ArrayBatches, RowBatch
from heads.loop.passes import train
from heads.loop.views import View, ViewedBatches
from heads.parts import put_together, take_apart
from heads.rine.head import RINEHead
from heads.rine.training import RINETrainer
from heads.rine.weights import RINEShape

VECTORS = Path(__file__).resolve().parents[1] / "data" / "rine.npz"
GRADIENT = 1e-4  # of the largest entry
STEPS = 1e-5  # a few dozen steps of Adam in float32, of the largest weight

Data = tuple[np.ndarray, np.ndarray]


def blobs(n: int = 90, n_layers: int = 3, width: int = 5, seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % 2)
    X = rng.normal(size=(n, n_layers * width)) + 0.7 * y[:, None]
    return X.astype(np.float32), y


def small(**parameters: Any) -> RINEHead:
    defaults = {"n_layers": 3, "proj_dim": 8, "nproj": 2, "batch_size": 16, "device": "cpu"}
    return RINEHead(**(defaults | parameters))


def weights_of(head: RINEHead) -> dict[str, Any]:
    shape = RINEShape(head.n_layers_, 1, head.proj_dim, head.nproj)
    return {w.attribute: getattr(head, w.attribute) for w in shape.weights()}


def assert_same_weights(left: RINEHead, right: RINEHead, tolerance: float = 0.0) -> None:
    for name, expected in weights_of(right).items():
        atol = tolerance * float(np.abs(expected).max())
        assert_allclose(getattr(left, name), expected, rtol=0, atol=atol, err_msg=name)


# ------------------------------------------------------------------ the published recipe


def stock_network(head: RINEHead, width: int) -> tuple[nn.ModuleList, torch.Tensor]:
    """Return Q1, Q2 and the head as stock modules without dropout, and TIE, initialised alike."""
    d, q = head.proj_dim, head.nproj
    trainer = RINETrainer(head, ArrayBatches(np.zeros((2, 3 * width)), np.array([0, 1])))
    parts = nn.ModuleList(
        nn.Sequential(*(step for pair in widths for step in (nn.Linear(*pair), nn.ReLU())))
        for widths in ([(width, d)] + [(d, d)] * (q - 1), [(d, d)] * q, [(d, d), (d, d), (d, 1)])
    )
    parts[2] = parts[2][:-1]
    parameters = list(trainer.module.parameters())
    with torch.no_grad():
        for own, value in zip(parts.parameters(), parameters[1:], strict=True):
            own.copy_(value)
    return parts, parameters[0].detach().clone().requires_grad_()


def stock_supcon(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the contrastive loss, anchor by anchor."""
    u = z / z.norm(dim=1, keepdim=True).clamp(min=1e-12)
    total = torch.zeros(())
    for i in range(len(z)):
        others = torch.arange(len(z)) != i
        logits = (u @ u[i])[others] / 0.07
        positive = (y == y[i])[others]
        if positive.any():
            total = total - logits.log_softmax(0)[positive].mean()
    return total / len(z)


def plain_training(head: RINEHead, X: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Train stock modules by stock Adam; return TIE and the other parameters."""
    (q1, q2, top), tie = stock_network(head, X.shape[1] // 3)
    parameters = [tie, *q1.parameters(), *q2.parameters(), *top.parameters()]
    adam = torch.optim.Adam(parameters, lr=head.learning_rate)
    for epoch in range(1, head.max_iter + 1):
        divisor = 1 if epoch < 6 else 10 if epoch < 11 else 100
        adam.param_groups[0]["lr"] = head.learning_rate / divisor
        order = np.random.default_rng((head.random_state, epoch - 1)).permutation(len(y))
        for start in range(0, len(y), head.batch_size):
            rows = order[start : start + head.batch_size]
            x, target = torch.tensor(X[rows]).view(len(rows), 3, -1), torch.tensor(y[rows])
            z = q2((torch.softmax(tie, 0) * q1(x)).sum(1))
            bce = nn.BCEWithLogitsLoss(reduction="sum")(top(z)[:, 0], target.float())
            loss = bce + head.xi * stock_supcon(z, target)
            adam.zero_grad()
            loss.backward()
            adam.step()
    return [parameter.detach().numpy() for parameter in parameters]


def test_fit__equals_a_plain_training_over_the_whole_schedule() -> None:
    X, y = blobs(n=40)
    head = small(dropout=0.0, max_iter=12, batch_size=13, random_state=3)  # a last batch of one
    expected = plain_training(head, X, y)
    head.fit(X, y)
    for (name, found), wanted in zip(weights_of(head).items(), expected, strict=True):
        atol = STEPS * float(np.abs(wanted).max())
        assert_allclose(found, wanted, rtol=0, atol=atol, err_msg=name)


def test_trainer__takes_the_published_steps() -> None:
    with np.load(VECTORS) as file:
        vectors = dict(file)
    X, y = vectors["tiny_X"].reshape(10, -1), vectors["tiny_y"]
    head = small(n_layers=6, proj_dim=16, dropout=0.0, batch_size=10)
    trainer = RINETrainer(head, ArrayBatches(X, y))
    names = [(w.parameter, w.published) for w in RINEShape(6, 32, 16, 2).weights()]
    state = trainer.module.state_dict()
    for own, published in names:
        state[own].copy_(torch.tensor(vectors[f"tiny_w0/{published}"]).view_as(state[own]))
    for step in range(3):
        trainer.consume(RowBatch(X, y, np.arange(10)), {})
        gradients = {name: value.grad for name, value in trainer.module.named_parameters()}
        for own, published in names if step == 0 else ():
            expected = vectors[f"tiny_grad0/{published}"]
            found = gradients[own].numpy().reshape(expected.shape)
            assert_allclose(found, expected, rtol=0, atol=GRADIENT * np.abs(expected).max())
    for own, published in names:
        if f"tiny_w3/{published}" in vectors:
            expected = vectors[f"tiny_w3/{published}"]
            assert_allclose(state[own].numpy().reshape(expected.shape), expected, atol=STEPS)


@pytest.mark.parametrize(
    ("epoch", "factor"), [(0, 1), (4, 1), (5, 0.1), (9, 0.1), (10, 0.01), (14, 0.01), (99, 0.01)]
)
def test_rate__falls_in_the_sixth_and_the_eleventh_epoch(epoch: int, factor: float) -> None:
    trainer = RINETrainer(small(), ArrayBatches(*blobs()))
    assert trainer.rate(epoch, 0) == pytest.approx(factor)


def test_history__is_the_sum_and_the_mean_before_each_step() -> None:
    X, y = blobs(n=16)
    head = small(dropout=0.0, max_iter=2, xi=0.5).fit(X, y)
    assert head.history_names == ("loss", "bce", "supcon", "val_ap")
    loss, bce, supcon, precision = head.history_.T
    assert_allclose(loss, bce + 0.5 * supcon, rtol=STEPS)
    assert 0.4 * 16 < bce[0] < 16  # log 2 per row of the one batch
    assert np.isnan(precision).all()


def test_fit__of_a_last_batch_of_one_is_finite() -> None:
    X, y = blobs(n=17)
    assert np.isfinite(small(max_iter=3).fit(X, y).decision_function(X)).all()


# ------------------------------------------------------------------ switches


def test_xi_of_zero__is_no_contrastive_loss() -> None:
    X, y = blobs()
    assert_same_weights(small(xi=0.0).fit(X, y), small(use_contrastive=False).fit(X, y))
    assert not small(use_contrastive=False).fit(X, y).history_[:, 2].any()


def test_without_tie__blocks_weigh_the_same_for_ever() -> None:
    X, y = blobs()
    head = small(use_tie=False, max_iter=3).fit(X, y)
    assert_allclose(head.importance(), np.full(3, 1 / 3))
    permuted = X.reshape(-1, 3, 5)[:, [2, 0, 1]].reshape(len(X), -1)
    assert_allclose(
        head.decision_function(permuted), head.decision_function(X), rtol=1e-4, atol=1e-5
    )


def test_without_intermediate__only_the_last_block_matters() -> None:
    X, y = blobs()
    head = small(use_intermediate=False, max_iter=2).fit(X, y)
    other = X.copy()
    other[:, :10] = 100
    assert_array_equal(head.decision_function(other), head.decision_function(X))
    assert head.importance().tolist() == [0, 0, 1]


def test_importance__of_zeros_is_learned_from_the_mean() -> None:
    X, y = blobs()
    X[:, :10] = np.random.default_rng(1).normal(size=(90, 10))  # only the last block tells
    head = small(tie_init="zeros", dropout=0.0, max_iter=40, learning_rate=0.01).fit(X, y)
    weights = head.importance()
    assert weights.argmax() == 2
    assert weights.sum() == pytest.approx(1)
    assert head.importance(per_feature=True).shape == (3, 8)
    assert_allclose(head.importance(per_feature=True).sum(0), 1)


# ------------------------------------------------------------------ blocks


def test_n_layers__of_an_array_is_one_unless_given() -> None:
    X, y = blobs()
    assert small(n_layers=None).fit(X, y).q1_weight_0_.shape == (8, 15)
    assert small(n_layers=5).fit(X, y).q1_weight_0_.shape == (8, 3)
    with pytest.raises(ValueError, match="got 15 features for n_layers=4"):
        small(n_layers=4).fit(X, y)


class Layered(ArrayBatches):
    """Rows that say which layers they consist of."""

    def __init__(self, X: Any, y: Any, widths: tuple[int, ...]) -> None:
        super().__init__(X, y)
        self.layers, self.layer_names = widths, tuple(f"ln_2.{i}" for i in range(len(widths)))


def test_n_layers__of_a_source_is_all_of_them() -> None:
    head = small(n_layers=None)
    train([head], Layered(*blobs(), (5, 5, 5)))
    assert head.n_layers_ == 3


@pytest.mark.parametrize(
    ("n_layers", "widths", "text"),
    [
        (None, (5, 10), r"all layers must have one width, got \[5, 10\]; .*ln_2"),
        (2, (5, 5, 5), "'n_layers' must be the number of layers selected, 3, or None, got 2"),
    ],
)
def test_n_layers__that_do_not_fit_are_refused(n_layers: Any, widths: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        train([small(n_layers=n_layers)], Layered(*blobs(), widths))


def test_view__of_some_layers_is_a_training_on_them() -> None:
    X, y = blobs()
    source = ViewedBatches(Layered(X, y, (5, 5, 5)), View((0, 2)))
    seen, alone = small(n_layers=None), small(n_layers=2)
    train([seen], source)
    assert_same_weights(seen, alone.fit(np.delete(X, np.s_[5:10], axis=1), y))


# ------------------------------------------------------------------ together, again, in two parts


def test_members__of_a_grid_equal_single_fits_bit_for_bit() -> None:
    X, y = blobs()
    grid = [{"xi": xi, "nproj": q} for xi in (0.1, 0.8) for q in (1, 2)]
    grid += [{"random_state": 7}, {"tie_init": "zeros"}]
    together = [small(max_iter=2, **point) for point in grid]
    train(together, ArrayBatches(X, y))
    for head, point in zip(together, grid, strict=True):
        assert_same_weights(head, small(max_iter=2, **point).fit(X, y))


def test_fit__leaves_torchs_generator_alone() -> None:
    state = torch.get_rng_state()
    small().fit(*blobs()).transform(blobs()[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_training__goes_on_from_a_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    X, y = blobs()
    whole = small(max_iter=7).fit(X, y)
    checkpoint = Checkpoint(tmp_path / "c.safetensors")
    head = small(max_iter=7)
    (trainer,) = RINEHead.trainers([head], ArrayBatches(X, y))
    for _ in range(3):
        for batch in ArrayBatches(X, y).batches(trainer.next_pass()):  # type: ignore[arg-type]
            trainer.consume(batch, {})
        trainer.end_pass(None)
    checkpoint.save([trainer])
    again = small(max_iter=7)
    train([again], ArrayBatches(X, y), checkpoint=checkpoint)
    assert_same_weights(again, whole)
    assert_array_equal(again.history_, whole.history_)


def test_selection__keeps_the_best_epoch_on_validation_rows() -> None:
    X, y = blobs()
    validation = ArrayBatches(*blobs(seed=5))
    head = small(max_iter=8, learning_rate=0.02, dropout=0.0)
    train([head], ArrayBatches(X, y), validation)
    precision = head.history_[:, 3]
    assert head.selected_epoch_ == len(precision) - np.argmax(precision[::-1])
    shorter = small(max_iter=head.selected_epoch_, learning_rate=0.02, dropout=0.0).fit(X, y)
    assert_same_weights(head, shorter)


def test_fit__that_diverges_says_so() -> None:
    with pytest.raises(ValueError, match=r"(?s)must be finite.* after epoch 2 .*'learning_rate'"):
        small(max_iter=2, learning_rate=1e30).fit(*blobs())


def test_fit__again_with_fewer_layers_forgets_the_others() -> None:
    X, y = blobs()
    head = small(nproj=4).fit(X, y).set_params(nproj=1).fit(X, y)
    assert not hasattr(head, "q1_weight_1_")
    head.check_learned()


# ------------------------------------------------------------------ the learned head


def test_transform__is_the_embedding_that_the_head_reads() -> None:
    X, y = blobs()
    head = small().fit(X, y)
    h = head.transform(X)
    assert h.shape == (90, 8)
    assert (h >= 0).all()
    for i in range(2):
        weight, bias = getattr(head, f"head_weight_{i}_"), getattr(head, f"head_bias_{i}_")
        h = np.maximum(h @ weight.T + bias, 0)
    logits = h @ head.head_weight_2_[0] + head.head_bias_2_  # type: ignore[attr-defined]
    assert_allclose(head.decision_function(X), logits, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("attribute", "value", "text"),
    [
        ("n_layers_", 2, "'n_layers_' must be 3 and divide the 15 features, got 2"),
        ("tie_logits_", np.zeros((2, 8)), r"'tie_logits_' must be an array of shape \(3, 8\)"),
        ("q2_weight_1_", np.full((8, 8), np.nan), "'q2_weight_1_' must hold finite numbers"),
        ("head_bias_2_", None, "'head_bias_2_' must be an array"),
        ("head_bias_2_", np.full(1, 1e300), "'head_bias_2_' must be float32, got float64"),
    ],
)
def test_check_learned__says_what_does_not_fit(attribute: str, value: Any, text: str) -> None:
    head = small().fit(*blobs())
    setattr(head, attribute, value)
    with pytest.raises(ValueError, match=text):
        head.check_learned()


def test_put_together__of_a_head_of_endless_depth_is_refused() -> None:
    fields, arrays = take_apart(small().fit(*blobs()))
    fields["parameters"]["nproj"] = 10**5  # the list of the shapes of 10**12 fills any memory
    with pytest.raises(ValueError, match="'nproj' parameter"):
        put_together(fields, arrays)


def test_read_only_weights__score_without_a_warning() -> None:
    X, y = blobs()
    head = small().fit(X, y)
    scores = head.decision_function(X)
    for values in weights_of(head).values():
        values.flags.writeable = False
    assert_array_equal(head.decision_function(X), scores)


def test_fit__from_the_store_scores_the_store(tmp_path: Path) -> None:
    store = simulate_store(tmp_path / "s.zarr", shift=4.0, n_samples=60)
    head = RINEHead(proj_dim=32, nproj=1, learning_rate=0.01, max_iter=5, batch_size=32)
    heads.fit(head, store.select(split="train"), store.select(split="val"))
    assert head.n_layers_ == 3
    scores = score(head, store.select(split="test"))
    assert ((scores["score"] > 0) == (scores["label"] == 1)).mean() > 0.9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fit__on_a_gpu_is_close_to_the_cpu() -> None:
    X, y = blobs()
    expected = small(dropout=0.0, max_iter=3).fit(X, y)
    found = small(dropout=0.0, max_iter=3, device="cuda").fit(X, y)
    assert_same_weights(found, expected, tolerance=1e-3)
