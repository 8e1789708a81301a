"""Datasets on a Hub: published, loaded by name and streamed, pinned, offline; and errors."""

from __future__ import annotations

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anthrotap_hf.utils.atomic_files import file_sha256
from helpers.hub_server import READER, Repository

pytest.importorskip("numba", reason="needs anthrotap[builder]")
LOAD = """
import sys
import anthrotap_hf
from datasets import load_dataset

rows = load_dataset(*sys.argv[1:], split="train")
frames, tracks = anthrotap_hf.decode_row(rows.with_format("numpy")[0])
assert len(frames) == tracks.num_frames
print(len(rows), tracks.xy.shape[0])
"""
STREAM = """
import sys
import anthrotap_hf
from datasets import load_dataset

rows = [*load_dataset(sys.argv[1], split="train", streaming=True)]
clips = [*anthrotap_hf.stream_clips(sys.argv[1])]
assert sorted(row["clip_id"] for row in rows) == sorted(clip.clip_id for clip in clips)
print(len(clips))
"""
PLAIN = """
import sys
from datasets import load_dataset
rows = load_dataset(sys.argv[1], split="train")
assert "anthrotap_hf" not in sys.modules
print(len(rows), rows.column_names[0])
"""


def usage(card: str) -> str:
    """Return the block of Python of a card."""
    (block,) = re.findall(r"```python\n(.+?)```", card, re.DOTALL)
    return block


def published(anthrotap, dataset, *arguments: str, **options: str) -> dict:
    done = anthrotap(
        *("publish", "dataset", dataset, "me/dances", "--video-licenses", "cc0-1.0", "--json"),
        *arguments,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_dataset_is_published_loaded_streamed_pinned_and_read_offline(hub, client, anthrotap, dataset):
    printed = published(anthrotap, dataset, "--tag", "v1")
    repository = hub.repositories["dataset", "me/dances"]
    assert repository.private
    assert printed["commit"] == repository.head == repository.tags["v1"]
    assert set(printed["files"]) == set(repository.files()) - {".gitattributes"}
    assert repository.files()["README.md"].decode() == printed["card"]

    used = client("-c", usage(printed["card"]) + "print(len(frames), len(tracks))")
    assert used.stdout.split() == ["30", "2"], used.stderr
    loaded = client("-c", LOAD, "me/dances")
    assert loaded.stdout.split() == ["3", "2"], loaded.stderr
    named = client("-c", LOAD, "anthrotap", ANTHROTAP_REPO="me/dances@v1")
    assert named.stdout.split() == ["3", "2"], named.stderr
    streamed = client("-c", STREAM, "me/dances")
    assert streamed.stdout.split() == ["3"], streamed.stderr
    plain = client("-c", PLAIN, "me/dances", without_us=True)
    assert plain.stdout.split() == ["3", "clip_id"], plain.stderr

    # Another version, with nothing in it: the pin still means the first.
    files = {name: content for name, content in repository.files().items() if "data/" not in name}
    repository.commit(files)
    pinned = client("-c", LOAD, "anthrotap", ANTHROTAP_REPO="me/dances@v1")
    assert pinned.stdout.split() == ["3", "2"], pinned.stderr
    asked = len(hub.requests)
    offline = client("-c", LOAD, "anthrotap", ANTHROTAP_REPO="me/dances@v1", HF_HUB_OFFLINE="1")
    assert offline.stdout.split() == ["3", "2"], offline.stderr
    assert len(hub.requests) == asked


def test_the_usage_on_the_card_of_labels_alone_runs(client, anthrotap, dataset):
    shard = dataset / "data/train-00000-of-00001.parquet"
    table = pq.read_table(shard)
    index = table.schema.get_field_index("video")
    nothing = pa.nulls(len(table), table.schema.field(index).type)
    pq.write_table(table.set_column(index, table.schema.field(index), nothing), shard)
    manifest = json.loads((dataset / "manifest.json").read_text())
    manifest["files"][0]["sha256"] = file_sha256(shard)
    (dataset / "manifest.json").write_text(json.dumps({**manifest, "label_only": True}))
    done = anthrotap("publish", "dataset", dataset, "me/dances", "--json")
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)["card"]
    assert "anthrotap attach" in card
    used = client("-c", usage(card) + "print(len(tracks), tracks.num_frames)")
    assert used.stdout.split() == ["2", "30"], used.stderr


def test_publishing_again_replaces_shards_in_one_commit(hub, anthrotap, dataset, tmp_path):
    published(anthrotap, dataset)
    repository = hub.repositories["dataset", "me/dances"]
    listed = json.loads(repository.files()[".anthrotap.json"])
    listed["files"].append("data/train-00001-of-00002.parquet")  # as of an earlier version of two shards
    left = {"data/train-00001-of-00002.parquet": b"old", "notes.txt": b"mine", "examples/use.py": b"mine"}
    repository.commit(repository.files() | left | {".anthrotap.json": json.dumps(listed).encode()})
    uploads, commits = len(hub.uploads()), len(repository.order)
    published(anthrotap, dataset, "--public", "--people", "All signed.")
    assert len(hub.uploads()) == uploads  # the Hub has the contents
    assert len(repository.order) == commits + 1
    assert "data/train-00001-of-00002.parquet" not in repository.files()
    assert repository.files()["notes.txt"] == repository.files()["examples/use.py"] == b"mine"
    assert b"All signed." in repository.files()["README.md"]
    assert not repository.private
    rejected = anthrotap("publish", "dataset", dataset, "me/dances", "--video-licenses", "cc0-1.0")
    assert rejected.returncode == 2
    assert "--public: me/dances exists and is public; set it, or choose another name" in rejected.stderr


@pytest.mark.slow
def test_files_of_others_are_not_replaced_unasked(hub, anthrotap, dataset):
    published(anthrotap, dataset)
    repository = hub.repositories["dataset", "me/dances"]
    ours = repository.files()
    arguments = ("publish", "dataset", dataset, "me/dances", "--video-licenses", "cc0-1.0")
    for theirs, message in (
        ({"README.md": ours["README.md"] + b"Mine."}, "the card of me/dances was edited there"),
        ({"data/mine.parquet": b"mine"}, "has data/mine.parquet, which AnthroTAP did not publish"),
    ):
        repository.commit(ours | theirs)
        rejected = anthrotap(*arguments)
        assert rejected.returncode == 2
        assert message in rejected.stderr
        assert repository.files() == ours | theirs
    published(anthrotap, dataset, "--overwrite")
    assert repository.files() == ours


@pytest.mark.slow  # huggingface_hub tries five times, half a minute each
def test_a_broken_upload_publishes_nothing_and_is_resumed(hub, anthrotap, dataset):
    shard = dataset / "data/train-00000-of-00001.parquet"
    manifest = json.loads((dataset / "manifest.json").read_text())
    # The same rows, as two files.
    table = pq.read_table(shard)
    shard.unlink()
    manifest["files"] = []
    for number, begin in enumerate((0, 1)):
        path = dataset / f"data/train-0000{number}-of-00002.parquet"
        pq.write_table(table.slice(begin, 1 + number), path)
        manifest["files"].append({"name": f"data/{path.name}", "rows": 1 + number, "sha256": file_sha256(path)})
    (dataset / "manifest.json").write_text(json.dumps(manifest))

    unreachable = anthrotap(
        *("publish", "dataset", dataset, "me/dances", "--video-licenses", "cc0-1.0"),
        HF_ENDPOINT="http://127.0.0.1:9",
    )
    assert unreachable.returncode == 2
    assert "can't be reached" in unreachable.stderr
    hub.break_after = 1
    broken = anthrotap("publish", "dataset", dataset, "me/dances", "--video-licenses", "cc0-1.0")
    assert broken.returncode == 2, broken.stderr
    assert "type the same command again" in broken.stderr
    assert "Traceback" not in broken.stderr
    repository = hub.repositories["dataset", "me/dances"]
    assert set(repository.files()) == {".gitattributes"}
    (arrived,) = hub.objects
    tried = len(hub.uploads())
    hub.break_after = None
    published(anthrotap, dataset)
    assert hub.uploads()[tried:] == [file["sha256"] for file in manifest["files"] if file["sha256"] != arrived]
    assert sum(name.startswith("data/") for name in repository.files()) == 2


@pytest.mark.slow
def test_the_hub_s_errors_in_one_line(hub, client, anthrotap, dataset):
    arguments = ("publish", "dataset", dataset, "me/dances", "--video-licenses", "cc0-1.0")

    def refusal(done) -> str:
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr.strip().splitlines()[-1]

    assert "the Hub does not accept the token" in refusal(anthrotap(*arguments, token="hf_nonsense"))
    assert "HF_TOKEN" in refusal(anthrotap(*arguments, token=None))
    assert "may not write there" in refusal(anthrotap(*arguments, token=READER))
    assert "may not write there" in refusal(anthrotap(*arguments[:3], "other/dances", *arguments[4:]))
    assert "not the name of a repository" in refusal(anthrotap(*arguments[:3], "me/a b", *arguments[4:]))
    hub.repositories["dataset", "me/dances"] = Repository(private=True)
    hub.repositories["dataset", "me/dances"].commit({"README.md": b"# Other", "data.csv": b"1"})
    assert "which AnthroTAP did not publish" in refusal(anthrotap(*arguments))
    assert hub.uploads() == []


STREAM_ONE = """
import sys
import anthrotap_hf
try:
    next(iter(anthrotap_hf.stream_clips(sys.argv[1])))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_errors_of_reading_a_dataset_of_the_hub(hub, client, anthrotap, dataset):
    published(anthrotap, dataset, "--public", "--people", "All signed.")
    repository = hub.repositories["dataset", "me/dances"]

    def printed(name: str, **options: str) -> str:
        done = client("-c", STREAM_ONE, name, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "me/nothing: no such repository on the Hub, or a private one" in printed("me/nothing")
    assert "me/dances@v9: no such revision" in printed("me/dances@v9")
    assert "does not accept the token" in printed("me/dances", token="hf_nonsense")
    repository.gated = True
    assert "me/dances: the repository is gated; ask for access" in printed("me/dances", token=READER)
    assert "me/dances: the repository is gated; ask for access" in printed("me/dances", token=None)
    repository.gated, repository.private = False, True
    assert "or a private one that the token in use may not read" in printed("me/dances", token=READER)
    assert "not in the cache" in printed("me/other", HF_HUB_OFFLINE="1")
