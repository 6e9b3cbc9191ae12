"""Grids: every combination of hyper-parameters and of layers to be seen."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from featstore.errors import ConfigError
from featstore.typed_values import Key, convert

LAYER = "layer"
"""Key of a grid that is no hyper-parameter of a head but what the head sees."""

LayerNames = str | list[str] | None
"""A name, a glob, a list of them, or nothing for all."""


def grid_points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return all combinations of a grid.

    Parameters
    ----------
    grid
        Name to the values to try.

    Returns
    -------
    list of dict
        Combinations, the last name varying fastest; one empty one for an empty grid.

    Raises
    ------
    ConfigError
        If a name has no list of values.

    Examples
    --------
    >>> grid_points({"alpha": [1, 2], "beta": [0]})
    [{'alpha': 1, 'beta': 0}, {'alpha': 2, 'beta': 0}]
    """
    for name, values in grid.items():
        if not isinstance(values, (list, tuple)) or not values:
            raise ConfigError(f"'grid.{name}' must be a list of values to try, got {values!r}.")
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def point_layers(points: Sequence[Mapping[str, Any]]) -> list[LayerNames] | None:
    """Return the layers that each combination of a grid sees.

    Parameters
    ----------
    points
        Combinations from `grid_points`.

    Returns
    -------
    list or None
        For each a name, a glob, a list of them, or None for all; None if layers are not varied.

    Raises
    ------
    ConfigError
        If something else than names is given.

    Examples
    --------
    >>> point_layers(grid_points({"layer": ["block.0", ["block.0", "block.1"]]}))
    ['block.0', ['block.0', 'block.1']]
    """
    if not any(LAYER in point for point in points):
        return None
    place = Key("grid")
    return [convert(point.get(LAYER), LayerNames, place.child(LAYER)) for point in points]
