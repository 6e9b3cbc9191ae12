"""Stochastic gradient descent on BCE + HSIC, for a stack of probes at once.

`HSICTrainer` holds the weights of ``k`` heads in one matrix, so that one product with the batch
serves all of them, and takes the batch's input kernel from the cache that all trainers share.
The estimator with its parameters is `heads.hsic.probe.HSICProbe`. This module imports torch.
"""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from heads.hsic.gradient import add_hsic_gradient, center_kernel, gaussian_kernels
from heads.hsic.weights import Kept, Slopes, linear_init
from heads.loop.batch_source import BatchSource, Floats, Pass, RowBatch, Shared, Term
from heads.loop.devices import torch_device
from heads.loop.lessons import lesson_loss, lesson_slope
from heads.loop.passes import State
from heads.loop.validation import average_precisions

if TYPE_CHECKING:
    from heads.hsic.probe import HSICProbe

MIN_ROWS = 4
"""Batches with fewer rows have no HSIC term; they still have a cross-entropy."""


class HSICTrainer:
    """Stochastic gradient descent of several `HSICProbe` heads on the same batches.

    Parameters
    ----------
    members
        Heads that differ in `lambda_x`, `lambda_y` and `learning_rate` at most.
    source
        The rows to learn from; only its number of features and its classes are read here.

    Notes
    -----
    Memory: the weights (4 bytes × members × n_components × n_features) twice, as the best epoch
    of each member is kept.
    """

    takes_lessons = True

    def __init__(self, members: Sequence["HSICProbe"], source: BatchSource) -> None:
        self._shape = head = members[0]
        self.members = members
        self._classes = source.classes
        self._device = torch_device(head.device)
        self._scaler = StandardScaler() if head.standardize == "zscore" else None
        self._scaled = self._scaler is None
        self._rates = self._vector("learning_rate")
        self._weights = torch.stack((self._vector("lambda_x"), -self._vector("lambda_y")), dim=1)
        self._raw: list[int] = []  # members whose weights are for features as they come
        self._init_weights(source.n_features)
        self._epoch = 0
        self._totals = torch.zeros(len(members), 4, dtype=torch.float32, device=self._device)
        self._n_rows = 0
        self._history: list[Floats] = []
        self._best = np.full(len(members), -np.inf)
        self._kept: dict[int, Kept] = {}

    @property
    def validates(self) -> bool:
        """Whether epochs are selected on validation rows; not while gathering statistics."""
        return self._scaled and self._shape.selection == "validation"

    def _vector(self, parameter: str) -> Tensor:
        """Return one parameter of all members as float32 (k,)."""
        values = [float(getattr(member, parameter)) for member in self.members]
        return torch.tensor(values, dtype=torch.float32, device=self._device)

    def _init_weights(self, n_features: int) -> None:
        """Draw one initial head and give it to all members."""
        k, h = len(self.members), self._shape.n_components
        generator = torch.Generator().manual_seed(self._shape.random_state)
        W, b = linear_init(n_features, h, generator)
        w, c = linear_init(h, 1, generator)
        self._W = W.to(self._device).repeat(k, 1)  # (k h, n_features)
        self._b = b.to(self._device).repeat(k, 1)  # (k, h)
        self._w = w.to(self._device).repeat(k, 1)  # (k, h)
        self._c = c.to(self._device).repeat(k)  # (k,)
        self._coef: Tensor | None = None  # (k, n_features), fold of the current weights
        for m, member in enumerate(self.members):
            if member.warm_start and hasattr(member, "encoder_weight_"):
                self._go_on_from(member, m)

    def _go_on_from(self, member: "HSICProbe", m: int) -> None:
        """Begin with the weights that a member has."""
        W = self._W.view(*self._b.shape, -1)[m]
        if member.encoder_weight_.shape != W.shape:
            raise ValueError(
                f"warm_start=True needs weights of shape {tuple(W.shape)}, got a probe trained to "
                f"{member.encoder_weight_.shape}; keep features and sizes, or set warm_start=False."
            )
        W.copy_(torch.from_numpy(member.encoder_weight_))
        self._b[m] = torch.from_numpy(member.encoder_bias_)
        self._w[m] = torch.from_numpy(member.classifier_weight_[0])
        self._c[m] = float(member.classifier_bias_[0])
        self._raw.append(m)

    def _standardise_weights(self) -> None:
        """Turn weights for features as they come into weights for standardised ones."""
        W = self._W.view(*self._b.shape, -1)
        for m in self._raw:
            self._b[m] += W[m] @ self._mean
            W[m] *= self._scale

    def next_pass(self) -> Pass | None:
        """Return a pass for the statistics if any, then one shuffled pass per epoch."""
        if not self._scaled:
            return Pass()
        if self._epoch == self._shape.max_iter:
            return None
        return Pass(self._shape.batch_size, self._shape.random_state, self._epoch)

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Take one step of gradient descent, or gather the statistics of the features."""
        if not self._scaled and self._scaler is not None:
            self._scaler.partial_fit(batch.X)
            return
        parts = [
            self._slopes(rows, term, shared.setdefault((HSICTrainer, number), {}))
            for number, (rows, term) in enumerate(batch.parts())
        ]
        self._descend([slopes for slopes, _ in parts])
        self._totals += torch.stack([losses for _, losses in parts]).sum(0) * len(batch.y)
        self._n_rows += len(batch.y)

    def _slopes(self, rows: RowBatch, term: Term, shared: Shared) -> tuple[Slopes, Tensor]:
        """Return the steps along logits and representations, and the parts of the loss (k, 4)."""
        x, input_gram = self._input(rows, term, shared)
        target = torch.as_tensor(rows.y, dtype=torch.float32, device=self._device)
        Z = (self._W @ x.T).view(*self._b.shape, len(x))  # without the bias
        logits = (self._w[:, None, :] @ Z)[:, 0] + self._intercept()[:, None]  # (k, n)
        losses, rates = torch.zeros_like(self._totals), self._rates[:, None]
        along_logits = term.weight * rates * (logits.sigmoid() - target) / len(x)
        entropy = cross_entropy(logits, target.expand_as(logits), reduction="none")
        losses[:, 0] = term.weight * entropy.mean(1)
        if term.lesson is not None:
            along_logits += rates * lesson_slope(term.lesson, logits)
            losses[:, 3] = lesson_loss(term.lesson, logits)
        along_Z = self._w[:, :, None] * along_logits[:, None, :]
        if input_gram is not None:
            deviation = target - target.mean()
            losses[:, 1:3] = term.weight * add_hsic_gradient(
                along_Z,
                Z,
                torch.stack((input_gram, 2 * torch.outer(deviation, deviation))),
                term.weight * rates * self._weights,
                median=self._shape.median,
                attached=self._shape.sigma_grad == "attached",
            )
        return Slopes(x, Z, along_logits, along_Z), losses

    def _descend(self, parts: Sequence[Slopes]) -> None:
        """Subtract the steps from the weights, all taken at the weights before."""
        for _, Z, along_logits, _ in parts:
            slope = (Z @ along_logits[:, :, None])[:, :, 0]
            self._w = self._w - (slope + self._b * along_logits.sum(1, keepdim=True))
            self._c -= along_logits.sum(1)
        for x, _, _, along_Z in parts:
            self._b -= along_Z.sum(2)
            self._W.addmm_(along_Z.flatten(0, 1), x, alpha=-1)
        self._coef = None

    def _intercept(self) -> Tensor:
        """Return the intercept (k,) of the folded weights."""
        return (self._w * self._b).sum(1) + self._c

    def _input(self, rows: RowBatch, term: Term, shared: Shared) -> tuple[Tensor, Tensor | None]:
        """Return rows on the device and their centred kernel, computed once for all trainers."""
        key = (HSICTrainer, self._shape.standardize, self._shape.median, self._device)
        if key not in shared:
            x, gram = self._load(rows.X), None
            if term.weight and len(x) >= MIN_ROWS:
                columns = (x - x.mean(0)).T[None]
                gram = center_kernel(gaussian_kernels(columns, self._shape.median).gram[0])
            shared[key] = x, gram
        inputs: tuple[Tensor, Tensor | None] = shared[key]
        return inputs

    def _load(self, X: Floats) -> Tensor:
        """Return rows as float32 on the device, standardised if that is wanted."""
        x = torch.from_numpy(np.require(X, np.float32, ["C", "W", "E"])).to(self._device)
        return x if self._scaler is None else (x - self._mean).div_(self._scale)

    def scores(self, X: Floats) -> Floats:
        """Return the logits (n_rows, k) of the current weights, float32."""
        if self._coef is None:
            self._coef = (self._w[:, None, :] @ self._W.view(*self._b.shape, -1))[:, 0]
        logits: Floats = (self._load(X) @ self._coef.T + self._intercept()).cpu().numpy()
        return logits

    def end_pass(self, validation: tuple[Floats, NDArray[np.intp]] | None) -> None:
        """Record the epoch and keep the weights of the members that are better than before."""
        if not self._scaled and self._scaler is not None:
            self._use_scaler()
            self._standardise_weights()
            return
        self._epoch += 1
        precision = np.full(len(self.members), np.nan)
        if validation is not None:
            precision = average_precisions(*validation, self._classes)
        self._record(precision)
        # The later of two equal epochs: average precision saturates before the loss does.
        last = np.full(len(precision), self._epoch == self._shape.max_iter)
        better = last if validation is None else precision >= self._best
        for m in np.flatnonzero(better).tolist():
            self._best[m] = precision[m]
            self._keep(m)

    def _use_scaler(self) -> None:
        """Standardise from now on."""
        assert self._scaler is not None
        self._mean = torch.as_tensor(self._scaler.mean_, dtype=torch.float32).to(self._device)
        self._scale = torch.as_tensor(self._scaler.scale_, dtype=torch.float32).to(self._device)
        self._scaled = True

    def _record(self, precision: Floats) -> None:
        """Append the epoch to the history: loss, BCE, HSIC(x, z), HSIC(y, z), validation."""
        means = self._totals / self._n_rows
        loss = means[:, 0] + (means[:, 1:3] * self._weights).sum(1) + means[:, 3]
        parts = torch.column_stack((loss, means[:, :3])).double().cpu().numpy()
        self._history.append(np.column_stack((parts, precision)))
        self._totals.zero_()
        self._n_rows = 0

    def _keep(self, m: int) -> None:
        """Copy the weights of one member."""
        W = self._W.view(*self._b.shape, -1)
        copies = [part[m].numpy(force=True).copy() for part in (W, self._b, self._w, self._c)]
        self._kept[m] = Kept(self._epoch, *copies)

    def state(self) -> State | None:
        """Return weights, history and the kept epochs; None while gathering statistics."""
        if not self._scaled or not self._epoch:
            return None
        arrays = {name: getattr(self, f"_{name}").numpy(force=True) for name in "Wbwc"}
        arrays["history"] = np.stack(self._history)
        arrays["best"] = self._best
        if self._scaler is not None:
            arrays["mean"], arrays["scale"] = self._scaler.mean_, self._scaler.scale_
        for m, kept in self._kept.items():
            for name, value in kept._asdict().items():
                arrays[f"kept/{m}/{name}"] = np.asarray(value)
        return arrays

    def restore(self, state: State) -> None:
        """Go on after the epoch at which the state was taken."""
        for name in "Wbwc":
            setattr(self, f"_{name}", torch.tensor(state[name], device=self._device))
        self._history, self._best = list(state["history"]), state["best"].copy()
        self._epoch = len(self._history)
        if self._scaler is not None:
            self._scaler.mean_, self._scaler.scale_ = state["mean"], state["scale"]
            self._use_scaler()
        for m in range(len(self.members)):
            if f"kept/{m}/epoch" in state:
                epoch, *weights = (state[f"kept/{m}/{name}"] for name in Kept._fields)
                self._kept[m] = Kept(int(epoch), *weights)

    def finish(self) -> None:
        """Write the learned attributes onto the members."""
        histories = np.stack(self._history, axis=1)
        for m, member in enumerate(self.members):
            kept = self._kept.pop(m)
            if not np.isfinite(kept.W).all():
                warnings.warn(
                    f"the training of {member!r} diverged, its weights are not finite; lower "
                    f"'learning_rate' or set standardize='zscore'.",
                    ConvergenceWarning,
                    stacklevel=2,
                )
            self._write(member, kept)
            member.history_ = histories[m]
            member.n_iter_ = self._epoch

    def _write(self, member: "HSICProbe", kept: Kept) -> None:
        """Write one member's weights, for inputs that are not scaled, and their fold."""
        W, b = kept.W.astype(np.float64), kept.b.astype(np.float64)
        if self._scaler is not None:
            W /= self._scaler.scale_
            b -= W @ self._scaler.mean_
        member.selected_epoch_ = kept.epoch
        member.encoder_weight_, member.encoder_bias_ = W.astype(np.float32), b.astype(np.float32)
        member.classifier_weight_ = kept.w[None]
        member.classifier_bias_ = np.array([kept.c], dtype=np.float32)
        member.coef_ = (kept.w @ W)[None].astype(np.float32)
        member.intercept_ = np.array([kept.w @ b + kept.c], dtype=np.float32)
        member.classes_, member.n_features_in_ = self._classes, W.shape[1]
