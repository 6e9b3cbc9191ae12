"""Where heads that use torch compute."""

import re

import torch

DEVICES = re.compile(r"cpu|cuda(:(?P<number>[0-9]+))?")
"""Names of devices, besides ``"auto"``."""


def torch_device(name: str) -> torch.device:
    """Return the device of that name; ``"auto"`` is the first GPU if there is one.

    Parameters
    ----------
    name
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<number>"``.

    Returns
    -------
    torch.device
        A device that exists.

    Raises
    ------
    ValueError
        If the name is none of these, or there is no such GPU.
    """
    n_gpus = torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if n_gpus else "cpu"
    found = DEVICES.fullmatch(name)
    if found is None:
        raise ValueError(f"'device' must be 'auto', 'cpu', 'cuda' or 'cuda:<n>', got {name!r}.")
    if name != "cpu" and int(found["number"] or 0) >= n_gpus:
        raise ValueError(
            f"'device' must be there, got {name!r}, but torch sees {n_gpus} GPUs; choose 'auto' or "
            "'cpu'."
        )
    return torch.device(name)
