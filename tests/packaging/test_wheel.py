"""The wheel: what is in it, and that it works where neither this folder nor an editable install is on the path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="the wheel is built without fetching: needs anthrotap[dev]")

from anthrotap_hf.video import iter_frames, write_video

ROOT = Path(__file__).parents[2]
# `make wheel` runs them, and so does CI.
pytestmark = pytest.mark.slow
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`installed("anthrotap", ...)` runs a program of an environment that holds the wheel, in an empty folder.

    The packages that the wheel depends on are those of this environment. Its `.pth` files, and with them an editable
    install of this repository, are not read: that is done only for folders of site-packages, not for those that
    another `.pth` names.
    """
    home, work = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("work")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    packages = sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)})
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(scripts / "python"),
        "install",
        "--quiet",
        "--no-deps",
    ]
    subprocess.run([*pip, "--ignore-installed", str(wheel)], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(scripts / program), *arguments],
            cwd=work,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


def test_the_wheel_holds_the_needed_files_and_no_others(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"anthrotap_hf", "anthrotap_builder"}
    for package, folder in (("anthrotap_hf", ROOT), ("anthrotap_builder", ROOT / "builder")):
        files = {
            path.relative_to(folder).as_posix()
            for path in (folder / package).rglob("*")
            if path.is_file() and path.parent.name != "__pycache__"
        }
        assert f"{package}/py.typed" in files
        assert files <= set(names)
    cards = {f"anthrotap_hf/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "model_cards").iterdir()}
    assert cards <= set(names)


def test_both_packages_come_from_the_wheel(installed):
    code = "import anthrotap_hf, anthrotap_builder; print(anthrotap_hf.__file__, anthrotap_builder.__file__)"
    locations = installed("python", "-c", code).stdout
    assert str(ROOT) not in locations
    assert locations.count("site-packages") == 2
    assert installed("anthrotap", "--version").stdout.startswith("anthrotap ")


@pytest.mark.parametrize(("command", "recipe"), [("label", "open"), ("train", "tiny-finetune")])
def test_recipes_are_completed(installed, command, recipe):
    typed = f"anthrotap {command} " + ("--recipe " if command == "label" else "")
    completed = installed(
        "anthrotap", _ANTHROTAP_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=str(typed.count(" "))
    )
    assert recipe in completed.stdout.split()


@pytest.mark.timeout(900)
def test_a_clip_is_labeled_published_and_tracked(installed, tmp_path):
    pytest.importorskip("anny", reason="needs anthrotap[builder]")
    clip, labels = tmp_path / "short.mp4", tmp_path / "labels"
    write_video(clip, (frame.image for frame in islice(iter_frames(ROOT / "examples/dance.mp4"), 24)), 24)
    report = json.loads(installed("anthrotap", "label", str(clip), "--out", str(labels), "--json").stdout)
    assert report
    code = f"""
import anthrotap_hf
from datasets import load_dataset
row = load_dataset({str(labels)!r}, split="train").with_format("numpy")[0]
frames, tracks = anthrotap_hf.decode_row(row)
print(len(frames), len(set(tracks.person.tolist())), tracks.visible.mean())
"""
    num_frames, people, visible = installed("python", "-c", code).stdout.split()
    assert (int(num_frames), int(people)) == (24, 2)
    assert float(visible) > 0.5

    card = "import json, sys, anthrotap_hf.hub.cards as c; print(c.dataset_card(json.load(open(sys.argv[1]))))"
    assert "load_dataset" in installed("python", "-c", card, str(labels / "manifest.json")).stdout

    tracks = tmp_path / "tracks"
    installed("anthrotap", "track", str(clip), "--points", "0,265.5,196.5", "--out", str(tracks))
    assert list(tracks.iterdir())
