"""Limits of memory as configurations state them."""

from featstore.errors import ConfigError


def memory_limit(text: str) -> int:
    """Return a limit of memory in bytes.

    Parameters
    ----------
    text
        ``max_memory`` of a configuration.

    Returns
    -------
    int
        Bytes, at least 1.

    Raises
    ------
    ConfigError
        If the text is no size, or that of nothing.

    Examples
    --------
    >>> memory_limit("2GB")
    2000000000
    """
    from dask.utils import parse_bytes

    try:
        n_bytes = int(parse_bytes(text))
    except (ValueError, OverflowError) as err:
        raise ConfigError(
            f"'max_memory' must be a size such as '2GB' or '500MB', got {text!r}."
        ) from err
    if n_bytes <= 0:
        raise ConfigError(f"'max_memory' must be more than nothing, got {text!r}.")
    return n_bytes
