"""Errors a caller can cause, and the sentence for an unknown name.

::

    FeatstoreError
    ├── StoreNotFoundError    (FileNotFoundError)  no store there
    ├── StoreExistsError      (FileExistsError)    something is there already
    ├── SchemaError           (ValueError)         the store's content breaks its own rules
    ├── FormatVersionError    (ValueError)         written by a newer featstore
    ├── FingerprintError      (ValueError)         two different feature sets would be mixed
    ├── ConfigError           (ValueError)         a configuration or a command line is wrong
    └── UnreadableImageError  (OSError)            one image cannot be decoded

The command line prints any of these as ``error: …`` and exits with status 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class FeatstoreError(Exception):
    """Base of every error that a caller can cause."""


class StoreNotFoundError(FeatstoreError, FileNotFoundError):
    """There is no store at the given path."""


class StoreExistsError(FeatstoreError, FileExistsError):
    """There is something at the path where a store was to be created."""


class SchemaError(FeatstoreError, ValueError):
    """The store's content breaks the rules of its format."""


class FormatVersionError(FeatstoreError, ValueError):
    """The store was written by a newer featstore."""


class FingerprintError(FeatstoreError, ValueError):
    """Features of two different origins would be mixed."""


class ConfigError(FeatstoreError, ValueError):
    """A configuration file or a command line asks for something impossible."""


class UnreadableImageError(FeatstoreError, OSError):
    """An image cannot be decoded; the message is the reason alone, without the path."""


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> str:
    """Say that a name is unknown, which ones exist and which one was probably meant.

    Parameters
    ----------
    kind
        What the name names, in the singular (``"layer"``).
    name
        The name received.
    choices
        The names that exist.

    Returns
    -------
    str
        One sentence for an error message.

    Examples
    --------
    >>> unknown_name("layer", "blok.3", ["block.3", "ln_post"])
    "unknown layer 'blok.3' (did you mean 'block.3'?); choose from ['block.3', 'ln_post']."
    """
    known = sorted(set(choices))
    close = get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    shown = known if len(known) <= 40 else [*known[:20], "…", *known[-5:]]
    return f"unknown {kind} {name!r}{hint}; choose from {shown}."
