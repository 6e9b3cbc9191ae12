"""Layers: the places in a backbone at which vectors are read."""

from typing import NamedTuple


class Layer(NamedTuple):
    """One row of the ``layer`` axis: where in the network a vector is read.

    ``array`` names the Zarr array it is stored in: ``cls`` for the token or pooled features of one
    width, ``cls_<width>`` when a network has stages of several widths, ``proj`` for the embedding.
    """

    name: str
    tap: str
    depth: int
    width: int
    array: str = "cls"
