import re
import subprocess
import sys
from concurrent.futures import BrokenExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import zarr
from conftest import REPOSITORY
from support.images import write_tree

import cli
import featstore
from continual.memory import ReplayMemory
from continual.selection.choice import choice_of
from featstore.config import from_mapping, read_yaml
from featstore.errors import ConfigError
from featstore.extract_config import ExtractConfig
from featstore.simulate import simulate_store

CONFIGS = sorted((REPOSITORY / "configs").rglob("*.yaml"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("images"), 12, side=64)


def run(capsys, *arguments):
    status = cli.main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: "/".join(path.parts[-2:]))
def test_configs__each_is_legal(path):
    kind = ExtractConfig
    if (name := path.parent.name) != "extract":
        command = cli.DESCRIBED[name]
        kind = getattr(import_module(command.module), command.config)
    assert from_mapping(kind, read_yaml(path), path)


def test_extract__dry_run_writes_nothing(images, tmp_path, capsys):
    store = tmp_path / "s.zarr"
    status, out, _ = run(
        capsys, "extract", images, "--store", store, "--backbone", "residual:64", "--dry-run"
    )
    assert status == 0
    assert "48 images found, 0 already present, 48 to extract" in out
    assert not store.exists()


def test_extract__then_ls_and_verify(images, tmp_path, capsys):
    store = tmp_path / "s.zarr"
    arguments = ["extract", images, "--store", store, "--backbone", "residual:64"]
    (images / "train/a/0_real/broken.png").write_bytes(b"no image")
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert "49 images extracted" in out
    assert "1 unreadable" in out
    assert re.search(r"unreadable: train/a/0_real/broken.png: \w+", out)
    (images / "train/a/0_real/broken.png").unlink()
    assert "0 images extracted" in run(capsys, *arguments)[1]
    status, out, _ = run(capsys, "ls", store)
    assert status == 0
    assert "residual-64" in out
    assert run(capsys, "verify", store)[0] == 0
    (store / "features/residual-64/clean/a/train/cls/c/0/0/0").write_bytes(b"x")
    status, out, _ = run(capsys, "verify", store)
    assert status == 1
    assert "does not match its checksum" in out
    assert "--repair" in out
    assert run(capsys, "verify", store, "--repair")[0] == 0


def test_extract__configuration_and_options(images, tmp_path, capsys):
    config = tmp_path / "e.yaml"
    config.write_text(f"images: {images}\nstore: {tmp_path}/s.zarr\nbackbone: residual:128\n")
    assert run(capsys, "extract", "--config", config, "--backbone", "residual:64")[0] == 0
    assert featstore.open(tmp_path / "s.zarr").feature_sets() == ["residual-64"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ls", "nowhere.zarr"], "there must be a store at 'nowhere.zarr'"),
        (["extract", "nowhere", "--store", "s.zarr"], "nowhere"),
        (["extract", "--store", "s.zarr"], "images"),
        (["extract", "IMAGES", "--store", "s.zarr", "--backbone", "tim:x"], "did you mean 'timm'"),
        (["extract", ".", "--store", "s.zarr", "--layout", "class"], "unknown layout 'class'"),
        (["extract", ".", "--store", "s.zarr", "--precision", "fp8"], "fp8"),
        (["extract", ".", "--store", "s.zarr", "--batch-size", "-1"], "at least 0, got -1"),
        (["extract", ".", "--store", "s.zarr", "--workers", "-2"], "at least 0, got -2"),
        (["extract", ".", "--store", "s3://b/s.zarr"], "URLs are not supported yet"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["import", "npy", "nowhere", "--store", "s.zarr", "--features", "f"], "nowhere"),
    ],
    ids=str,
)
def test_main__mistakes_are_one_sentence(images, arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [images if argument == "IMAGES" else argument for argument in arguments]
    status, _, err = run(capsys, *given)
    assert status == 2
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_extract_config__view_must_be_clean():
    with pytest.raises(ConfigError, match="'view' must be 'clean', got 'jpeg'"):
        ExtractConfig("i", "s", view="jpeg")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (PermissionError(13, "Permission denied", "/x"), 2, "error: [Errno 13] Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted; everything committed is safe"),
        (MemoryError(), 2, "error: all processes must fit into memory, got MemoryError; lower"),
        (BrokenExecutor(), 2, "error: all processes must fit into memory, got BrokenExecutor"),
    ],
    ids=["system", "interrupt", "memory", "killed worker"],
)
def test_main__errors_of_the_system_and_interrupts(monkeypatch, capsys, error, status, message):
    def fail(path):
        raise error

    monkeypatch.setattr(featstore, "open", fail)
    got, out, err = run(capsys, "ls", "s.zarr")
    assert (got, out) == (status, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_ls__names_that_are_no_unicode_are_printed(tmp_path):
    script = (
        "import cli, featstore, os, pandas as pd\n"
        "class Store:\n"
        "    def contents(self):\n"
        "        return pd.DataFrame({'dataset': [os.fsdecode(b'd\\xff')]}, dtype=object)\n"
        "featstore.open = lambda path: Store()\n"
        "raise SystemExit(cli.main(['ls', 's']))\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, check=True, cwd=REPOSITORY)
    assert b"d\\udcff" in done.stdout


def test_ls__of_an_array_inside_a_store(tmp_path, capsys):
    zarr.create_array(tmp_path / "s.zarr/label", shape=(1,), dtype="int8")
    status, _, err = run(capsys, "ls", tmp_path / "s.zarr/label")
    assert status == 2
    assert "got an array" in err


def test_ls__every_unreadable_image(tmp_path, capsys):
    images = write_tree(tmp_path / "images", 3, side=64)
    names = [f"train/a/0_real/empty{i}.png" for i in range(25)]
    for name in names:
        (images / name).touch()
    store = tmp_path / "s.zarr"
    run(capsys, "extract", images, "--store", store, "--backbone", "residual:64")
    status, out, _ = run(capsys, "ls", store, "--unreadable")
    assert status == 0
    assert sorted(out.splitlines()[1:]) == sorted(f"  {name}: empty file" for name in names)


def test_verify__broken_metadata_is_not_repaired(images, tmp_path, capsys):
    store = tmp_path / "s.zarr"
    run(capsys, "extract", images, "--store", store, "--backbone", "residual:64")
    (store / "samples/a/train/label/zarr.json").write_text("{")
    status, out, err = run(capsys, "verify", store, "--repair")
    assert status == 1
    assert "broken: samples/a/train: " in out
    assert "Traceback" not in err


def test_import__packed_layers(tmp_path, capsys):
    for folder in ("0_real", "1_fake"):
        (tmp_path / "tree/train/a" / folder).mkdir(parents=True)
        packed = np.ones((4, 3 * 8), np.float16)
        np.save(tmp_path / "tree/train/a" / folder / "packed_features.npy", packed)
    arguments = ["import", "npy", tmp_path / "tree", "--store", tmp_path / "s", "--features", "f"]
    assert run(capsys, *arguments)[0] == 2
    status, out, _ = run(capsys, *arguments, "--layers", 3)
    assert status == 0
    assert "8 rows imported" in out
    assert featstore.open(tmp_path / "s").contents()["layers"].tolist() == [3]
    with pytest.raises(SystemExit):
        cli.main([*map(str, arguments), "--layers", "0"])


def test_main__help_names_every_command(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    out = capsys.readouterr().out
    for command in ("extract", "ls", "verify", "import", "demo", *cli.DESCRIBED):
        assert command in out


def test_help__imports_nothing_heavy():
    script = (
        "import sys, contextlib, cli\n"
        "with contextlib.suppress(SystemExit): cli.main(['--help'])\n"
        "print(sorted({'numpy', 'torch', 'xarray', 'zarr', 'dask'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.endswith("[]\n")


def test_readme__names_only_commands_that_exist():
    text = (Path(REPOSITORY) / "README.md").read_text()
    commands = {add.__name__.removeprefix("add_") for add in cli.COMMANDS} | set(cli.DESCRIBED)
    assert set(re.findall(r"^featstore (\w+)", text, re.MULTILINE)) <= commands


def test_memory__shows_rows_and_draws_them(tmp_path, capsys):
    store = simulate_store(tmp_path / "s.zarr", n_samples=10, n_layers=1)
    memory = ReplayMemory()
    memory.remember(store.select(dataset="a", split="train"), choice_of(np.array([0, 3])), "a", {})
    memory.save(tmp_path / "m")
    sheet = tmp_path / "sheet.png"
    status, out, _ = run(capsys, "memory", "show", tmp_path / "m", "--sheet", sheet)
    assert status == 0
    assert "| a |" in out
    assert "2 images were not at hand" in out
    assert sheet.exists()
    assert run(capsys, "memory", "show", tmp_path)[0] == 2
