"""Saved pipelines in processes of their own: with this package imported, and where it does not exist."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from transformers import pipeline

from anthrotap_hf.models.flowchain import FlowChainConfig, FlowChainForPointTracking
from helpers.trackers import tiny_locotrack, tiny_tapir, tiny_tapnext

ROOT = Path(__file__).parents[3]
QUERIES = [[0, 10.5, 8], [3, 40, 30]]
TINY = {
    "flowchain": lambda: FlowChainForPointTracking(FlowChainConfig(error_tolerance=2.5)),
    "locotrack": tiny_locotrack,
    "tapir": tiny_tapir,
    "tapnext": tiny_tapnext,
}
RUN = """
import json, sys
import numpy as np
import torch
torch.set_num_threads(1)
from transformers import pipeline
found = {}
for folder in sys.argv[2:]:
    tracker = pipeline("point-tracking", model=folder, trust_remote_code=TRUST)
    assert type(tracker).__module__.startswith(HOME), type(tracker)
    assert type(tracker.model).__module__.startswith(HOME), type(tracker.model)
    assert type(tracker.image_processor).__module__.startswith(HOME), type(tracker.image_processor)
    tracks = tracker(sys.argv[1], points=QUERIES)
    found[folder] = {name: value.tolist() for name, value in tracks.items()}
AGAIN
print(json.dumps(found))
"""


def run(code: str, *arguments: str, flags: tuple[str, ...] = (), **environment: str) -> str:
    """Standard output of a fresh Python that starts elsewhere."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", code, *arguments],
        env={**os.environ, **environment, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        cwd=environment["HF_MODULES_CACHE"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def without_us(tmp_path) -> str:
    """A folder with all installed packages but ours."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "anthrotap" not in path.name and path.suffix != ".pth":
            (folder / path.name).symlink_to(path)
    return str(folder)


@pytest.mark.slow
def test_saved_pipelines_run_with_this_package_and_without_it(tmp_path, make_video, without_us):
    video = make_video("a.mp4", shots=[6], size=(48, 64))
    cache = tmp_path / "modules"
    cache.mkdir()
    expected, folders = {}, []
    for name, make in TINY.items():
        folder = str(tmp_path / name)
        tracker = pipeline("point-tracking", model=make())
        tracker.save_pretrained(folder)
        expected[folder] = tracker(video, points=QUERIES)
        folders.append(folder)

    code = RUN.replace("QUERIES", str(QUERIES))
    ours = code.replace("TRUST", "None").replace("HOME", '"anthrotap_hf."').replace("AGAIN", "")
    remote = code.replace("TRUST", "True").replace("HOME", '"transformers_modules."')
    remote = "import importlib.util; assert importlib.util.find_spec('anthrotap_hf') is None\n" + remote
    again = remote.replace("AGAIN", "tracker.save_pretrained(sys.argv[-1] + '-again')")
    where = {"HF_MODULES_CACHE": str(cache)}
    bare = {**where, "PYTHONPATH": without_us, "flags": ("-S",)}
    outputs = [
        run("import anthrotap_hf\n" + ours, str(video), *folders, **where, PYTHONPATH=str(ROOT)),
        run(again, str(video), *folders, **bare),
    ]
    for output in outputs:
        found = json.loads(output)
        assert list(found) == folders
        for folder in folders:
            np.testing.assert_allclose(found[folder]["tracks"], expected[folder]["tracks"], atol=1e-3)
            np.testing.assert_allclose(found[folder]["scores"], expected[folder]["scores"], atol=1e-4)
    # and what such a process saves in its turn
    run(remote.replace("AGAIN", ""), str(video), folders[-1] + "-again", **bare)


def test_a_saved_pipeline_holds_no_local_path(tmp_path):
    pipeline("point-tracking").save_pretrained(tmp_path)
    for path in tmp_path.glob("*.json"):
        assert str(ROOT) not in path.read_text()
        assert str(tmp_path) not in path.read_text()


def test_saving_a_pipeline_leaves_its_model_as_it_was(tmp_path):
    model = TINY["locotrack"]()
    model.save_pretrained(tmp_path / "before")
    pipeline("point-tracking", model=model).save_pretrained(tmp_path / "pipeline")
    model.save_pretrained(tmp_path / "after")
    before, after = (sorted(path.name for path in (tmp_path / n).iterdir()) for n in ("before", "after"))
    assert before == after
    assert (tmp_path / "before/config.json").read_text() == (tmp_path / "after/config.json").read_text()


def test_importing_the_package_is_quick_and_imports_nothing_heavy(tmp_path):
    code = (
        "import sys, anthrotap_hf, anthrotap_hf.pipelines; "
        "print(sorted({'torch', 'transformers', 'cv2', 'av', 'numpy'} & set(sys.modules)))"
    )
    assert run(code, PYTHONPATH=str(ROOT), HF_MODULES_CACHE=str(tmp_path)).strip() == "[]"


@pytest.mark.parametrize(
    "first",
    [
        "import transformers.pipelines",
        pytest.param("import anthrotap_hf.pipelines.point_tracking", marks=pytest.mark.slow),
        "import anthrotap_hf.pipelines.image_processing_point_tracking",
        pytest.param("from anthrotap_hf.models.flowchain import FlowChainConfig", marks=pytest.mark.slow),
    ],
)
def test_the_task_is_registered_whatever_is_imported_first(tmp_path, first):
    code = (
        f"{first}; import anthrotap_hf; "
        "from transformers import AutoImageProcessor, pipeline; "
        "from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING; "
        "assert anthrotap_hf.LocoTrackConfig in IMAGE_PROCESSOR_MAPPING; "
        "print(type(pipeline('point-tracking')).__module__)"
    )
    found = run(code, PYTHONPATH=str(ROOT), HF_MODULES_CACHE=str(tmp_path))
    assert found.strip() == "anthrotap_hf.pipelines.point_tracking"
