"""The weights of a RINE head: their shapes and names.

They have one name on the head, one in the network and one in published files.
"""

from dataclasses import dataclass
from typing import NamedTuple

from heads.loop.batch_source import BatchSource


class Weight(NamedTuple):
    """One array of weights."""

    attribute: str
    """Of a fitted `heads.RINEHead`, such as ``"q1_weight_0_"``."""
    parameter: str
    """Of a `heads.rine.network.RINENetwork`, such as ``"encoder.q1.1.weight"``."""
    published: str
    """In the files published with the paper, such as ``"proj1.1.weight"``."""
    shape: tuple[int, ...]


@dataclass(frozen=True)
class RINEShape:
    """The shape of a RINE network.

    Parameters
    ----------
    n_layers
        Blocks of the backbone whose features lie one behind the other, n >= 1.
    width
        Features of each of them, D.
    proj_dim
        Width d of all layers of the network.
    nproj
        Linear layers q >= 1 of each of the two projections.
    use_tie
        Whether the importance of blocks is learned; if not, blocks are averaged.
    use_intermediate
        Whether all blocks are used; if not, only the last.
    """

    n_layers: int
    width: int
    proj_dim: int = 1024
    nproj: int = 4
    use_tie: bool = True
    use_intermediate: bool = True

    @property
    def n_used(self) -> int:
        """Number of blocks that are used."""
        return self.n_layers if self.use_intermediate else 1

    def weights(self) -> list[Weight]:
        """Return all weights, in the order of the published files.

        Returns
        -------
        list of Weight
            The TIE logits, then weight and bias of every linear layer of Q1, Q2 and the head.

        Examples
        --------
        >>> [w.attribute for w in RINEShape(2, 3, proj_dim=4, nproj=1).weights()][:3]
        ['tie_logits_', 'q1_weight_0_', 'q1_bias_0_']
        """
        d, layers = self.proj_dim, range(self.nproj)
        found = [Weight("tie_logits_", "encoder.tie_logits", "alpha", (self.n_used, d))]
        for i in layers:
            found += _linear(
                ("q1", "encoder.q1", "proj1"), i, 3 * i + 1, (d, d if i else self.width)
            )
        for i in layers:
            found += _linear(("q2", "encoder.q2", "proj2"), i, 3 * i + 1, (d, d))
        for i in range(3):
            found += _linear(("head", "head", "head"), i, 3 * i, (1 if i == 2 else d, d))
        return found


def blocks_of(source: BatchSource, n_layers: int | None) -> tuple[int, int]:
    """Return how many blocks the features of a source consist of, and their width.

    Parameters
    ----------
    source
        Its layers are the blocks; an array is cut into equal parts.
    n_layers
        How many are expected; None for all layers of a source, and one part of an array.

    Returns
    -------
    tuple of int
        Number of blocks, features of each.

    Raises
    ------
    ValueError
        If there are not as many as expected, or they are not of one width.
    """
    n = n_layers or len(source.layers)
    if source.layer_names is None:
        if source.n_features % n:
            raise ValueError(
                f"features must be 'n_layers' blocks of one width, got {source.n_features} "
                f"features for n_layers={n}; give the number of layers behind one another."
            )
        return n, source.n_features // n
    if n != len(source.layers):
        raise ValueError(
            f"'n_layers' must be the number of layers selected, {len(source.layers)}, or None, "
            f"got {n}."
        )
    if len(widths := set(source.layers)) > 1:
        raise ValueError(
            f"all layers must have one width, got {sorted(widths)}; select layers of one kind, "
            f"such as layer='ln_2.*'."
        )
    return n, source.layers[0]


def _linear(
    names: tuple[str, str, str], number: int, place: int, shape: tuple[int, int]
) -> list[Weight]:
    """Return weight and bias of a linear layer, the `number`-th, at `place` among all layers."""
    attribute, parameter, published = names
    return [
        Weight(
            f"{attribute}_{kind}_{number}_",
            f"{parameter}.{place}.{kind}",
            f"{published}.{place}.{kind}",
            own,
        )
        for kind, own in (("weight", shape), ("bias", shape[:1]))
    ]
