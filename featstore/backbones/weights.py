"""Weights of a network: what a name asks for, reading checkpoints safely, and their hash."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Literal

from featstore.errors import ConfigError, FeatstoreError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
WRAPPERS = ("state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")
N_SHOWN = 5


@dataclass(frozen=True)
class WeightSource:
    """Where weights come from.

    Parameters
    ----------
    kind
        ``"tag"`` of the library, local ``"file"`` or ``"random"`` initialisation.
    label
        What names them in a backbone's name: the tag, the file's name or ``random-<seed>``.
    seed
        Seed of the initialisation.
    path
        The file.
    """

    kind: Literal["tag", "file", "random"]
    label: str
    seed: int = 0
    path: Path = Path()


def find_weights(weights: str, tags: Sequence[str], model: str, default: str = "") -> WeightSource:
    """Say where weights come from.

    Parameters
    ----------
    weights
        ``"random"``, ``"random-<seed>"``, one of `tags`, the path of an existing file, or empty for
        `default`.
    tags
        Pretrained tags of the model.
    model
        Its name, for error messages.
    default
        The tag that stands for no name; the only one of `tags` if empty.

    Returns
    -------
    WeightSource
        What to load.

    Raises
    ------
    ConfigError
        If there is no such tag or file, or `weights` is empty and several tags would do.

    Examples
    --------
    >>> find_weights("random", [], "ViT-B-32").label
    'random-0'
    """
    if drawn := re.fullmatch(r"random(?:-(\d+))?", weights):
        seed = int(drawn[1] or 0)
        return WeightSource("random", f"random-{seed}", seed=seed)
    tag = weights or default or (tags[0] if len(tags) == 1 else "")
    if tag in tags:
        return WeightSource("tag", tag)
    path = Path(weights)
    if path.is_file():
        return WeightSource("file", path.name, path=path)
    if not weights:
        raise ConfigError(
            f"the weights of model {model!r} must be named, as '{model}/<weights>': one of the "
            f"pretrained tags {sorted(tags)}, a checkpoint file, or 'random'."
        )
    if path.suffix in SUFFIXES:
        raise ConfigError(f"weights of model {model!r} must be an existing file, got {weights!r}.")
    raise ConfigError(unknown_name(f"pretrained tag of {model!r}", weights, [*tags, "random"]))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed inside the block; torch's global generator is as before afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def downloading(model: str, tag: str) -> Iterator[None]:
    """Turn a library's failure to obtain pretrained weights into an error that says what to do."""
    try:
        yield
    except (OSError, RuntimeError) as err:
        raise FeatstoreError(
            f"the pretrained weights {tag!r} of model {model!r} could not be obtained ({err}); "
            f"pass a local checkpoint instead: '{model}/<file>'."
        ) from err


def read_checkpoint(path: Path) -> dict[str, "Tensor"]:
    """Read a state dict without running code from the file.

    Parameters
    ----------
    path
        A ``.safetensors`` file, or a ``.pt``, ``.pth`` or ``.bin`` file of tensors. A training
        checkpoint is searched for its ``state_dict`` or ``model``; the prefixes that distributed
        and compiled models add to names are removed.

    Returns
    -------
    dict of str to Tensor
        On the CPU.

    Raises
    ------
    ConfigError
        If the file has another suffix, cannot be read safely or holds no state dict.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix not in SUFFIXES:
        raise ConfigError(f"a checkpoint must be one of {SUFFIXES}, got '{path}'.")
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, UnpicklingError, SafetensorError) as err:
        raise ConfigError(
            f"checkpoint '{path}' cannot be read as plain tensors ({err}); "
            f"save the model's state dict as .safetensors."
        ) from err
    for wrapper in WRAPPERS:
        state = state.get(wrapper, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise ConfigError(f"checkpoint '{path}' must hold a state dict: names mapped to tensors.")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)


def load_exactly(module: "nn.Module", state: Mapping[str, "Tensor"], path: Path) -> None:
    """Copy a state dict into a module, every tensor of both accounted for.

    Parameters
    ----------
    module
        Changed in place; its own precision is kept.
    state
        The tensors, on any device.
    path
        Where they came from, for the error message.

    Raises
    ------
    ConfigError
        If a tensor is missing, unexpected or of another shape.
    """
    own = module.state_dict()
    faults = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own
            if name in state and state[name].shape != own[name].shape
        ],
    }
    told = [
        f"{len(names)} {fault} ({', '.join(names[:N_SHOWN])}{', …' * (len(names) > N_SHOWN)})"
        for fault, names in faults.items()
        if names
    ]
    if told:
        raise ConfigError(
            f"checkpoint '{path}' does not fit the model: {'; '.join(told)}. "
            f"Name the model that the checkpoint was saved from."
        )
    module.load_state_dict(state, strict=True)


def weights_sha256(module: "nn.Module") -> str:
    """Hash a module's state dict: name, dtype, shape and bytes of every tensor, by name.

    Parameters
    ----------
    module
        On the CPU.

    Returns
    -------
    str
        64 hexadecimal digits. About a second per gigabyte.
    """
    import torch

    digest = sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
