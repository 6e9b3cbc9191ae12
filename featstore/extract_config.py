"""What an extraction is asked to do, as data."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from featstore.errors import ConfigError


@dataclass(frozen=True)
class ExtractConfig:
    """What to extract; the YAML of ``featstore extract --config`` has these keys.

    Parameters
    ----------
    images
        Folder of images, or a manifest (CSV, Parquet).
    store
        The store; created where absent.
    backbone
        ``family:model[/weights]``, see `featstore.backbones`.
    features
        Name of the feature set; made from the backbone if empty.
    layout
        How the images lie: ``class-folders``, ``genimage`` or ``manifest``.
    dataset
        One dataset name for all images; as the layout says if empty.
    split
        Split of images for which the layout names none.
    view
        Name of the view; only ``"clean"``, the images as they are.
    taps
        What is read of every block: ``block``, ``ln_2``, ``ln_post``, ``proj``; the backbone's own
        choice if empty.
    crop
        ``"model"``: resize and crop as the model's authors do; ``"native"``: the centre of the
        image at its own resolution, no resize.
    precision
        ``"fp32"``, ``"bf16"`` or ``"fp16"`` matrix products.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    batch_size
        Images per forward pass; 0 chooses 32 on a CPU and 256 on a GPU.
    workers
        Threads that read and decode; 0 for one per core.
    retry_unreadable
        Whether blocks with unreadable images are extracted again.

    Raises
    ------
    ConfigError
        If a number is negative, the store is a URL, or the view is not ``"clean"``.
    """

    images: str
    store: str
    backbone: str = "residual"
    features: str = ""
    layout: str = "class-folders"
    dataset: str = ""
    split: str = ""
    view: str = "clean"
    taps: list[str] = field(default_factory=list)
    crop: Literal["model", "native"] = "model"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int = 0
    workers: int = 0
    retry_unreadable: bool = False

    def __post_init__(self) -> None:
        for name, value in {"batch_size": self.batch_size, "workers": self.workers}.items():
            if value < 0:
                raise ConfigError(
                    f"{name!r} must be at least 0, got {value}; 0 chooses for this machine."
                )
        if "://" in self.store:
            raise ConfigError(
                f"'store' must be a local path, got {self.store!r}; URLs are not supported yet."
            )
        if self.view != "clean":
            raise ConfigError(
                f"'view' must be 'clean', got {self.view!r}; views with perturbed images are not "
                "supported yet."
            )


def default_name(config: ExtractConfig) -> str:
    """Return the name of a feature set that was given none.

    Parameters
    ----------
    config
        What is extracted.

    Returns
    -------
    str
        The backbone in letters that need no quoting, with what differs from the default.

    Examples
    --------
    >>> default_name(ExtractConfig("i", "s", "open_clip:ViT-L-14-quickgelu/openai"))
    'open_clip-ViT-L-14-quickgelu-openai'
    >>> default_name(ExtractConfig("i", "s", "timm:vit_tiny/w/v.safetensors", crop="native"))
    'timm-vit_tiny-v-native'
    """
    family, _, rest = config.backbone.partition(":")
    model, _, weights = rest.partition("/")
    extra = [config.crop if config.crop != "model" else "", *config.taps]
    if config.precision != "fp32":
        extra.append(config.precision)
    return "-".join(part for part in [family, model, Path(weights).stem, *extra] if part)
