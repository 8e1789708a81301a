"""A Hub on loopback, and clients of it in separate processes, as for users."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.hub_server import WRITER, Hub, running_hub

ROOT = Path(__file__).parents[3]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as server:
        yield server


@pytest.fixture
def client(hub, tmp_path) -> Run:
    """`client("-m", "anthrotap_hf.cli.main", ...)` runs Python with the Hub at hand, an empty cache of its own and
    the token of the account "me"; `token=`, `home=`, `without_us=True` and variables change that."""

    def run(
        *arguments: str,
        token: str | None = WRITER,
        home: Path = tmp_path / "hub-cache",
        without_us: bool = False,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "ANTHROTAP_"))}
        own = {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(home),
            "OMP_NUM_THREADS": "1",
            "ANTHROTAP_CACHE": os.environ.get("ANTHROTAP_CACHE", str(Path.home() / ".cache/anthrotap")),
        }
        own |= {} if token is None else {"HF_TOKEN": token}
        flags = []
        if without_us:
            own["PYTHONPATH"] = str(_packages_but_ours(tmp_path))
            flags = ["-S"]  # no site-packages, which our package is linked into
        home.mkdir(exist_ok=True)
        return subprocess.run(
            [sys.executable, *flags, *arguments],
            env={**kept, **own, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def anthrotap(client) -> Run:
    """`anthrotap("publish", "dataset", ...)`: the command in a process of its own."""

    def run(*arguments: str | Path, **options: str) -> subprocess.CompletedProcess[str]:
        return client("-m", "anthrotap_hf.cli.main", *map(str, arguments), **options)

    return run


def _packages_but_ours(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    if not folder.is_dir():
        folder.mkdir()
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if "anthrotap" not in path.name and path.suffix != ".pth":
                (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def dataset(tmp_path, make_video, fake_labels) -> Path:
    """What `anthrotap label` wrote of two videos, with made-up labels; 3 rows in one shard."""
    from anthrotap_builder.config import labeling_config
    from anthrotap_builder.label_videos import LabelOptions, label_videos

    videos = [make_video("one.mp4", shots=[60]), make_video("two.mp4", shots=[12])]
    label_videos(videos, tmp_path / "dataset", labeling_config(), LabelOptions(threads=1))
    return tmp_path / "dataset"
