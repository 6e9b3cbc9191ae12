"""The command line: parse, call one library function, print."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv
        Arguments; those of the process if None.

    Returns
    -------
    int
        0 if all is well, 1 if `verify` found damage, 2 for a mistake of the caller or of the
        system, 130 if interrupted.
    """
    parser = argparse.ArgumentParser(prog="featstore", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    arguments = parser.parse_args(argv)
    from featstore.errors import FeatstoreError

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of folders may be no Unicode
    try:
        return int(arguments.run(arguments) or 0)
    except (FeatstoreError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    except (BrokenExecutor, MemoryError) as err:
        print(
            f"error: all processes must fit into memory, got {type(err).__name__}; lower "
            "'max_memory', 'max_members' or 'n_jobs', and run the same command again.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted; everything committed is safe, the same command continues",
            file=sys.stderr,
        )
        return 130


def add_extract(commands: Any) -> None:
    """Add ``extract``."""
    parser = commands.add_parser("extract", help="images -> features of every layer in a store")
    parser.add_argument("images", nargs="?", help="folder of images, or a manifest")
    parser.add_argument("--store", help="the store; created where absent")
    parser.add_argument("--config", help="YAML with these options; options given here win")
    parser.add_argument("--backbone", help="family:model[/weights] (default: residual)")
    parser.add_argument("--features", help="name of the feature set (default: from the backbone)")
    parser.add_argument("--layout", help="class-folders (default), genimage or manifest")
    parser.add_argument("--dataset", help="one dataset name for all images")
    parser.add_argument("--split", help="split of images whose folders name none")
    parser.add_argument("--taps", nargs="+", help="block, ln_2, ln_post, proj")
    parser.add_argument("--crop", help="model (default) or native: centre crop without resize")
    parser.add_argument("--precision", help="fp32 (default), bf16 or fp16")
    parser.add_argument("--device", help="auto (default), cpu or cuda")
    parser.add_argument("--batch-size", type=int, help="images per forward pass")
    parser.add_argument("--workers", type=int, help="threads that read and decode")
    parser.add_argument("--retry-unreadable", action="store_true", default=None)
    parser.add_argument("--dry-run", action="store_true", help="print counts, bytes and time only")
    parser.set_defaults(run=run_extract)


def run_extract(arguments: argparse.Namespace) -> None:
    """Extract, or say what it would cost."""
    from featstore import extract
    from featstore.config import from_mapping, read_yaml
    from featstore.display import estimate_text, summary_text
    from featstore.extract_config import ExtractConfig

    given = {
        name: value
        for name, value in vars(arguments).items()
        if value is not None and name not in {"config", "dry_run", "run"}
    }
    base = read_yaml(Path(arguments.config)) if arguments.config else {}
    config = from_mapping(ExtractConfig, {**base, **given}, arguments.config or "command line")
    if arguments.dry_run:
        print(estimate_text(extract.estimate(config)))
        return
    with progress_bar("images") as progress:
        summary = extract.extract(config, progress)
    print(summary_text(summary, config.store))


def add_ls(commands: Any) -> None:
    """Add ``ls``."""
    parser = commands.add_parser("ls", help="what a store holds")
    parser.add_argument("store")
    parser.add_argument(
        "--unreadable", action="store_true", help="every image without features, and why"
    )
    parser.set_defaults(run=run_ls)


def run_ls(arguments: argparse.Namespace) -> None:
    """Print the contents of a store."""
    import featstore
    from featstore.display import table_text, unreadable_text

    store = featstore.open(arguments.store)
    if arguments.unreadable:
        from featstore.extract import unreadable

        keys = store.groups()
        found = {"/".join(key): unreadable(store, key, store.group(key)) for key in keys}
        print(unreadable_text(found))
        return
    print(table_text(store.contents()))


def add_verify(commands: Any) -> None:
    """Add ``verify``."""
    parser = commands.add_parser("verify", help="recompute checksums, find damaged blocks")
    parser.add_argument("store")
    parser.add_argument(
        "--repair", action="store_true", help="drop damaged blocks; the next extract refills them"
    )
    parser.add_argument("--rebuild", action="store_true", help="make the catalogue anew")
    parser.set_defaults(run=run_verify)


def run_verify(arguments: argparse.Namespace) -> int:
    """Verify a store; 1 if something is damaged and was not, or cannot be, repaired."""
    import featstore
    from featstore.display import findings_text
    from featstore.verify import rebuild_catalogue, verify

    store = featstore.open(arguments.store)
    if arguments.rebuild:
        print(f"catalogue rebuilt: {len(rebuild_catalogue(store))} feature groups")
    with progress_bar("groups") as progress:
        findings = verify(store, repair=arguments.repair, progress=progress)
    print(findings_text(findings, arguments.repair))
    harmful = {"broken"} if arguments.repair else {"broken", "damaged"}
    return int(any(f.kind in harmful for f in findings))


def add_import(commands: Any) -> None:
    """Add ``import``."""
    parser = commands.add_parser("import", help="features of other systems -> store")
    parser.add_argument("format", choices=["npy"], help="npy: trees of feature_layer<i>.npy")
    parser.add_argument("source", help="folder <split>/<dataset>/{0_real,1_fake}/*.npy")
    parser.add_argument("--store", required=True)
    parser.add_argument("--features", required=True, help="name of the feature set")
    parser.add_argument(
        "--layers", type=positive, default=25, help="layers in packed_features.npy (default: 25)"
    )
    parser.set_defaults(run=run_import)


def positive(text: str) -> int:
    """Read a number of at least one."""
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def run_import(arguments: argparse.Namespace) -> None:
    """Import features."""
    from featstore.display import imported_text
    from featstore.interchange.import_npy import import_npy

    with progress_bar("rows") as progress:
        count = import_npy(
            Path(arguments.source),
            arguments.store,
            arguments.features,
            n_layers=arguments.layers,
            progress=progress,
        )
    print(imported_text(count, arguments.store))


class Described(NamedTuple):
    """A command that a YAML file describes."""

    help: str
    module: str
    config: str
    function: str
    unit: str
    options: tuple[tuple[str, str], ...] = ()
    """Keys that may be given on the command line too, and what they are."""


DESCRIBED = {
    "train": Described(
        "train a head, write a run folder",
        "heads.experiments.training", "TrainConfig", "run_train", "rows",
    ),
    "eval": Described(
        "evaluate a trained head, write a run folder",
        "heads.experiments.training", "EvalConfig", "run_eval", "rows",
    ),
    "transfer": Described(
        "train on each dataset alone, test on all",
        "heads.experiments.transfer", "TrainConfig", "run_transfer", "trainings",
    ),
    "sweep": Described(
        "a grid over heads, layers and seeds, one table",
        "heads.sweep.run", "SweepConfig", "run_sweep", "heads",
    ),
    "fewshot": Described(
        "a few images of each class or generator, many times",
        "heads.few_shot", "FewShotConfig", "run_few_shot", "episodes",
    ),
    "fuse": Described(
        "put the scores of several runs together",
        "heads.fusion.run", "FusionConfig", "run_fusion", "runs",
    ),
    "attribute": Described(
        "tell generators apart, and reject unknown ones",
        "heads.attribution.run", "AttributionConfig", "run_attribution", "rows",
    ),
    "continual": Described(
        "learn domain after domain, in many orders",
        "continual.protocol", "ContinualConfig", "run_continual", "runs",
        (("scheduler", "address of a Dask cluster to run on"),),
    ),
}  # fmt: skip
"""Commands with ``--config``: what they are for, where their configuration and function are."""


def add_described(name: str) -> Callable[[Any], None]:
    """Return what adds one of `DESCRIBED`."""

    def add(commands: Any) -> None:
        parser = commands.add_parser(name, help=DESCRIBED[name].help)
        parser.add_argument("--config", required=True, help="YAML; see configs/")
        parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="override")
        parser.add_argument("--overwrite", action="store_true", help="move an older run aside")
        for option, text in DESCRIBED[name].options:
            parser.add_argument(f"--{option}", help=text)
        parser.set_defaults(run=lambda arguments: run_described(arguments, DESCRIBED[name]))

    return add


def run_described(arguments: argparse.Namespace, command: Described) -> None:
    """Do what a YAML file says."""
    from featstore.config import load_config

    module = import_module(command.module)
    config = load_config(arguments.config, getattr(module, command.config), arguments.set)
    given = {name: getattr(arguments, name) for name, _ in command.options}
    given["overwrite"] = arguments.overwrite
    config = replace(config, **{name: value for name, value in given.items() if value})
    with progress_bar(command.unit) as progress:
        result = getattr(module, command.function)(config, progress=progress)
    print(result.text())


def add_memory(commands: Any) -> None:
    """Add ``memory``."""
    parser = commands.add_parser("memory", help="what a replay memory keeps")
    parser.add_argument("action", choices=["show"])
    parser.add_argument("memory", help="folder of the memory")
    parser.add_argument("--sheet", help="PNG of the images kept, where the files are at hand")
    parser.add_argument("--store", help="the store (default: that of the memory)")
    parser.set_defaults(run=run_memory)


def run_memory(arguments: argparse.Namespace) -> None:
    """Print what a memory keeps, and draw it."""
    import featstore
    from continual.contact_sheet import contact_sheet, memory_text
    from continual.memory import ReplayMemory

    memory = ReplayMemory.load(arguments.memory)
    print(memory_text(memory))
    if arguments.sheet:
        store = featstore.open(arguments.store or (memory.features or {})["store"])
        n_missing = contact_sheet(memory, store, Path(arguments.sheet))
        print(f"drawn to {arguments.sheet}; {n_missing} images were not at hand")


def add_demo(commands: Any) -> None:
    """Add ``demo``."""
    parser = commands.add_parser("demo", help="the whole job on images made on the spot")
    parser.add_argument("folder", help="where to put images, store and results")
    parser.set_defaults(run=run_demo)


def run_demo(arguments: argparse.Namespace) -> None:
    """Run the demo."""
    from heads.experiments.demo import run_demo

    with progress_bar("steps") as progress:
        text = run_demo(Path(arguments.folder), progress)
    print(text)


@contextmanager
def progress_bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show done, total, rate and time left on the terminal's error stream."""
    from featstore.progress import shown

    with shown(unit) as update:
        yield update


COMMANDS = (
    add_extract,
    add_ls,
    add_verify,
    add_import,
    *map(add_described, DESCRIBED),
    add_memory,
    add_demo,
)

if __name__ == "__main__":
    sys.exit(main())
