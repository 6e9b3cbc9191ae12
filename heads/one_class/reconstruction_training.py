"""An autoencoder of real rows while it is being trained: scale, epochs, threshold.

The estimator with its parameters is `heads.one_class.reconstruction.ReconstructionOneClass`. This
module imports torch.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from heads.loop.batch_source import BatchSource, Floats, Pass, RowBatch, Shared
from heads.loop.gradient import GradientTrainer, Losses
from heads.loop.passes import State
from heads.one_class.anomaly_head import Scored
from heads.one_class.autoencoder import Autoencoder
from heads.one_class.reconstruction import ReconstructionOneClass
from heads.one_class.training import known_rows


class Bottleneck(nn.Module):
    """Scaled features to a squashed code and back.

    Parameters
    ----------
    n_features
        Numbers of a row.
    n_components
        Numbers of its code.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int, n_components: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(n_features, n_components)
        self.decoder = nn.Linear(n_components, n_features)
        self.register_buffer("mean", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(n_features, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean squared errors (n,) of rows (n, n_features), in units of the scale."""
        scaled = ((x - self.mean) / self.scale).float()
        errors: Tensor = (self.decoder(self.encoder(scaled).tanh()) - scaled).square().mean(1)
        return errors


class AutoencoderTrainer(GradientTrainer):
    """Gradient descent on the reconstruction error of real rows, for one head.

    Parameters
    ----------
    head
        What is trained.
    source
        The rows to learn from.

    Notes
    -----
    The first pass measures mean and scale of the features, unless they are left as they are; the
    last one, in stored order too, the errors of the real rows, 16 bytes per row.
    """

    takes_lessons = False  # the decision rule is measured when the steps are over
    module: Bottleneck

    def __init__(self, head: ReconstructionOneClass, source: BatchSource) -> None:
        super().__init__(head, source)
        self._scaler = StandardScaler()
        self._scaled = head.standardize == "none"
        self._training: list[Floats] = []
        self._model: Autoencoder | None = None
        self._validation: Scored | None = None
        self._closed = False

    def build(self) -> nn.Module:
        """Return the network with torch's initial weights."""
        return Bottleneck(self.source.n_features, self.head.n_components)

    def learned(self) -> Mapping[str, NDArray[Any]]:
        """Return the head's weights for features as they are scaled now."""
        head = self.head
        if not getattr(head, "squash_", 0):
            return {}
        mean, scale = (part.numpy(force=True) for part in (self.module.mean, self.module.scale))
        if head.encoder_weight_.shape[1] != len(mean):
            raise ValueError(
                f"warm_start=True needs an autoencoder of {len(mean)} features, got one of "
                f"{head.encoder_weight_.shape[1]}; keep the features, or set warm_start=False."
            )
        return {
            "mean": mean,
            "scale": scale,
            "encoder.weight": head.encoder_weight_ * scale,
            "encoder.bias": head.encoder_bias_ + head.encoder_weight_ @ mean,
            "decoder.weight": head.decoder_weight_ / scale[:, None],
            "decoder.bias": (head.decoder_bias_ - mean) / scale,
        }

    @property
    def _trained(self) -> bool:
        return bool(self.epoch == self.head.max_iter)

    @property
    def validates(self) -> bool:
        """Whether validation rows are to be scored: once, when training is over."""
        return self._trained and self.head.uses_validation

    def next_pass(self) -> Pass | None:
        """Return a pass for the scale, one per epoch, and one for the threshold."""
        if not self._scaled:
            return Pass()
        if not self._trained:
            head = self.head
            return Pass(head.batch_size, head.random_state, self.epoch)
        return None if self._closed else Pass()

    def consume(self, batch: RowBatch, shared: Shared) -> None:
        """Take one step, or measure the real rows of the batch."""
        if self._scaled and not self._trained:
            super().consume(batch, shared)
        elif len(reals := known_rows(batch, 1, shared)[0]):
            if self._scaled:
                self._training.append(self._autoencoder().errors(reals))
            else:
                self._scaler.partial_fit(reals)

    def loss(self, x: Tensor, y: Tensor, batch: RowBatch) -> Losses:
        """Return the mean squared error of the real rows of a batch; 0 without any."""
        errors = self.module(x[y == 0])
        return {"loss": errors.sum() / max(1, len(errors))}

    def scores(self, X: Floats) -> Floats:
        """Return the anomaly scores (n_rows, 1) of the trained network."""
        return self._weighted().scores(X)[:, None]

    def end_pass(self, validation: Scored | None) -> None:
        """Go from the scale to the epochs, and from the last of these to the threshold."""
        if not self._scaled:
            if not hasattr(self._scaler, "mean_"):
                raise ValueError(
                    "one-class heads need rows of the first class (real images), got none; add "
                    "real rows."
                )
            self.module.mean.copy_(torch.from_numpy(self._scaler.mean_))
            self.module.scale.copy_(torch.from_numpy(self._scaler.scale_))
            self._scaled = True
            self.warm_up()
        elif not self._trained:
            super().end_pass(None)
        else:
            self._closed = True
            if validation is not None:
                self._validation = validation[0][:, 0], validation[1]

    def restore(self, state: State) -> None:
        """Go on after the epoch at which the state was taken; an unfinished scale begins anew."""
        super().restore(state)
        self._scaled = self._scaled or self.epoch > 0

    def _autoencoder(self) -> Autoencoder:
        """Return the trained network for features as they come, its errors not yet weighted."""
        if self._model is None:
            weights = {k: v.numpy(force=True).astype(float) for k, v in self._kept.items()}
            mean, scale = weights["mean"], weights["scale"]
            encoder = weights["encoder.weight"] / scale
            self._model = Autoencoder(
                encoder,
                weights["encoder.bias"] - encoder @ mean,
                scale[:, None] * weights["decoder.weight"],
                scale * weights["decoder.bias"] + mean,
                scale,
                error_weights=np.ones(2),
                squash=1,
            )
        return self._model

    def _weighted(self) -> Autoencoder:
        """Return the trained network with the weights of its two errors."""
        spread = np.concatenate(self._training).std(0)
        weights = {
            "rec": np.array([1.0, 0.0]),
            "scl": np.array([0.0, 1.0]),
            "sum": 1 / np.where(spread > 0, spread, 1.0),
        }
        return self._autoencoder()._replace(error_weights=weights[self.head.error])

    def finish(self) -> None:
        """Write the learned attributes."""
        head, model = self.head, self._weighted()
        training = np.concatenate(self._training) @ model.error_weights
        head.learn(model, head.decision_rule(training, self._validation))
        head.history_ = np.array(self._history)[:, :1]
        head.n_iter_, head.selected_epoch_ = self.epoch, self._kept_epoch
        head.classes_, head.n_features_in_ = self.source.classes, self.source.n_features
