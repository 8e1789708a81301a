"""The README and the pages of docs/: their blocks run, their links lead somewhere, their tables are true."""

from __future__ import annotations

import pickle
import re
import runpy
import shutil
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from helpers.document_blocks import ROOT, blocks, is_not_run, run_document, wanted

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# They label clips or train, for up to minutes.
SLOW = (
    "README",
    "labeling",
    "building",
    "training",
    "evaluation",
    "loading",
    "tracking",
    "publishing",
    "extending",
    "own-code",
)
RUN = [path for path in DOCUMENTS if not is_not_run(path.read_text("utf-8"))]


@pytest.fixture(scope="session")
def dancers(tmp_path_factory) -> Path:
    """A folder with `examples/dance.mp4` and, in `labels`, its labels, which the README's first block makes."""
    pytest.importorskip("anny", reason="needs anthrotap[builder]")
    from anthrotap_builder.config import labeling_config
    from anthrotap_builder.label_videos import label_videos

    folder = tmp_path_factory.mktemp("dancers")
    shutil.copy(ROOT / "examples/dance.mp4", folder)
    label_videos([folder / "dance.mp4"], folder / "labels", labeling_config())
    return folder


def _tapvid_pickle(folder: Path, path: Path) -> None:
    """Tracks of the labeled clip as TAP-Vid's pickles hold them."""
    from datasets import load_dataset

    import anthrotap_hf

    frames, tracks = anthrotap_hf.decode_row(
        load_dataset(str(folder / "labels"), split="train").with_format("numpy")[0]
    )
    some = tracks.select(np.arange(0, len(tracks), 40))
    points = np.nan_to_num(some.xy / np.array([some.width, some.height], np.float32))
    video = {"video": frames[:12], "points": points[:, :12], "occluded": ~some.visible[:, :12]}
    path.write_bytes(pickle.dumps({"dancers": video}))


@pytest.fixture
def registries():
    """Registries without, at the end, what a document added to them."""
    from anthrotap_builder.registries import BODIES, FLOWS, MESH_SOURCES

    with ExitStack() as patches:
        for registry in (BODIES, FLOWS, MESH_SOURCES):
            patches.enter_context(mock.patch.dict(registry.entries))
        yield


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] if path.stem in SLOW else []) for path in RUN],
    ids=lambda path: path.stem,
)
@pytest.mark.timeout(1200)
def test_every_block_runs(path, request, registries, tmp_path, monkeypatch):
    for name in wanted(path.read_text("utf-8")):
        dancers = request.getfixturevalue("dancers")
        if name == "tapvid_davis.pkl":
            _tapvid_pickle(dancers, tmp_path / name)
        elif name == "videos/":
            (tmp_path / "videos").mkdir()
            shutil.copy(dancers / "dance.mp4", tmp_path / "videos")
        elif name.endswith("/"):
            shutil.copytree(dancers / name, tmp_path / name)
        else:
            shutil.copy(dancers / name, tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("ANTHROTAP_REPO", raising=False)  # the sample
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    run_document(path, tmp_path)


def test_a_block_that_is_not_run_has_a_reason():
    for path in RUN:
        for block in blocks(path.read_text("utf-8")):
            if "not run" in block.about:
                assert len(block.about["not run"]) > 10, f"{path.name}:{block.line}"


def anchors(document: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", document, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    document = path.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", document):
        if target.startswith(("http:", "https:")):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{path.name}: {target}"
        if anchor:
            assert anchor in anchors(there.read_text("utf-8")), f"{path.name}: {target}"


def test_every_page_is_found_from_the_readme():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert all(f"docs/{path.name}" in readme for path in (ROOT / "docs").glob("*.md"))


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 250


def test_the_table_of_columns_is_the_datasets_own():
    from anthrotap_hf.schema import features

    page = (ROOT / "docs/data-format.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+)(?: (\w+))? \|", page, re.MULTILINE)
    columns = features(48)
    assert [name for name, _, _ in rows] == list(columns)
    for name, kind, of in rows:
        feature = columns[name]
        if kind in ("Array3D", "Array2D"):
            assert (type(feature).__name__, feature.dtype) == (kind, of)
        elif kind == "List":
            assert (type(feature).__name__, feature.feature.dtype) == (kind, of)
        elif kind == "Video":
            assert type(feature).__name__ == "Video"
        else:
            assert feature.dtype == kind


def test_the_page_of_settings_is_the_recipes_own():
    made = runpy.run_path(str(ROOT / "docs/make_settings.py"))["settings_page"]()
    assert (ROOT / "docs/settings.md").read_text("utf-8") == made, "run: python docs/make_settings.py"


def test_every_command_is_in_the_readme():
    from typer.main import get_command

    from anthrotap_hf.cli.main import app

    readme = (ROOT / "README.md").read_text("utf-8")
    for name in get_command(app).commands:
        assert f"`anthrotap {name}`" in readme or f"`{name}`" in readme, name


@pytest.mark.slow
def test_the_pictures_are_drawn(tmp_path):
    pytest.importorskip("anny", reason="needs anthrotap[builder]")
    import cv2

    runpy.run_path(str(ROOT / "docs/make_pictures.py"))["main"](tmp_path, tmp_path / "tracks.jpg")
    committed = {path.name for path in (ROOT / "docs/pictures").glob("*.jpg")} | {"tracks.jpg"}
    assert {path.name for path in tmp_path.glob("*.jpg")} == committed
    video, tracks = (cv2.imread(str(tmp_path / name)) for name in ("video.jpg", "tracks.jpg"))
    assert np.abs(video.astype(int) - tracks).mean() > 2  # dots are on it


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "docs/notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
@pytest.mark.timeout(1200)
def test_notebooks_run(path, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")], "committed without outputs"
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(path.parent)}}).execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "image/jpeg" in output.get("data", {}) or "image/png" in output.get("data", {})
    ]
    assert pictures
