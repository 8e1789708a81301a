"""Sources of videos, and the errors where there are none."""

from __future__ import annotations

import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets
import fsspec
import pytest

from anthrotap_builder.distributed.public_addresses import PrivateAddressError, check_host, public_client
from anthrotap_builder.distributed.video_sources import Source, SourceError, fetched, find_sources
from anthrotap_hf import stream_clips
from anthrotap_hf.training.config import ShardSource

# What makes each connection checked.
OPTIONS = {"get_client": public_client}


@pytest.fixture
def videos(make_video, tmp_path) -> Path:
    for name in ("b", "a"):
        make_video(f"videos/{name}.mp4", shots=[3])
    return tmp_path / "videos"


@pytest.fixture
def table(videos, tmp_path) -> Path:
    """A dataset folder: two Parquet files of two splits, videos inside."""
    cells = [{"bytes": (videos / name).read_bytes(), "path": name} for name in ("a.mp4", "b.mp4")]
    features = datasets.Features({"clip": datasets.Video(decode=False), "id": datasets.Value("int32")})
    rows = datasets.Dataset.from_dict({"clip": [*cells, cells[0]], "id": [0, 1, 2]}, features=features)
    folder = tmp_path / "table"
    rows.select([0, 1]).to_parquet(folder / "train-00000-of-00001.parquet")
    rows.select([2]).to_parquet(folder / "test-00000-of-00001.parquet")
    return folder


@pytest.fixture
def server(videos):
    """The folder of videos by HTTP."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(videos))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def bytes_of(source: Source, folder: Path) -> tuple[bytes, str]:
    with fetched(source, folder, 1 << 30, allow_private=True) as (path, name):
        data = path.read_bytes()
    assert not any(folder.glob("video*.*"))
    return data, name


def test_folders_and_files_and_lists(videos, tmp_path):
    (videos / "notes.md").write_text("no video")
    (tmp_path / "list.txt").write_text("# a comment\n\nvideos/b.mp4\n")
    found = find_sources([str(videos), str(videos / "a.mp4"), str(tmp_path / "list.txt"), str(videos / "*.mp4")])
    assert [Path(source.address).name for source in found] == ["a.mp4", "b.mp4"]
    assert all(source.size for source in found)


def test_keys_change_with_the_file(videos):
    before = find_sources([str(videos)])
    assert find_sources([str(videos)]) == before
    shutil.copy(videos / "a.mp4", videos / "b.mp4")
    after = find_sources([str(videos)])
    assert [one.key == other.key for one, other in zip(before, after, strict=True)] == [True, False]


def test_addresses_are_fetched(videos, server, tmp_path):
    memory = fsspec.filesystem("memory")
    for name in ("a.mp4", "b.mp4"):
        memory.pipe(f"/films/{name}", (videos / name).read_bytes())
    many = find_sources(["memory://films/"])
    assert many == find_sources(["memory://films/*.mp4"])
    (one,) = find_sources([f"{server}/a.mp4"])
    for source in (many[0], one):
        assert bytes_of(source, tmp_path) == ((videos / "a.mp4").read_bytes(), "a.mp4")


def test_tables_and_datasets(videos, table, tmp_path):
    both = find_sources([str(table)], column="clip")
    assert len(both) == 3
    train = find_sources([str(table)], column="clip", split="train")
    assert train == find_sources([str(table / "train-00000-of-00001.parquet")], column="clip")
    assert bytes_of(train[1], tmp_path) == ((videos / "b.mp4").read_bytes(), "b.mp4")
    assert len({source.key for source in both}) == 3


def test_cells_may_name_a_file_beside_the_table(videos, tmp_path):
    datasets.Dataset.from_dict({"video": ["a.mp4", ""]}).to_parquet(videos / "names.parquet")
    first, second = find_sources([str(videos / "names.parquet")])
    assert bytes_of(first, tmp_path)[0] == (videos / "a.mp4").read_bytes()
    with pytest.raises(SourceError, match=r"names.parquet \(row 1\): can't be fetched \(the cell is empty\)"):
        bytes_of(second, tmp_path)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nowhere", "nowhere: no such file, folder or dataset"),
        ("empty", "no video in this folder"),
        ("none/*.mp4", "no such file"),
        ("lists.txt", "names another list"),
        ("broken.parquet", "not a Parquet file that can be read"),
        ("table", "no column 'video'; --column names one of clip, id"),
        ("memory://nothing/", "no video there"),
        ("strange://films/", "can't be listed"),
    ],
)
def test_missing_inputs_are_an_error_in_one_line(address, reason, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "lists.txt").write_text("lists.txt\n")
    (tmp_path / "broken.parquet").write_text("no table")
    with pytest.raises((FileNotFoundError, ValueError)) as caught:
        find_sources([address])
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_address_that_fails_is_reported(server, tmp_path):
    (source,) = find_sources([f"{server}/gone.mp4"])
    with pytest.raises(SourceError, match=r"gone.mp4: can't be fetched"):
        bytes_of(source, tmp_path)


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.mp4", "file:///etc/passwd", "a::b"])
def test_tables_of_others_read_no_other_files(path, tmp_path):
    datasets.Dataset.from_dict({"video": [path]}).to_parquet(tmp_path / "names.parquet")
    (source,) = find_sources([str(tmp_path / "names.parquet")])
    with pytest.raises(SourceError, match="only files below the table's folder are read"):
        bytes_of(source, tmp_path)


def test_a_download_has_a_limit(server, videos, tmp_path):
    (source,) = find_sources([f"{server}/a.mp4"])
    with pytest.raises(SourceError, match="more than the download limit of"), fetched(source, tmp_path, 100, True):
        pass
    assert not (tmp_path / "video.mp4").exists()


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://host/a%20b.mp4?token=secret#tail", "a b.mp4"),
        ("zip://in side.mp4::/home/me/films.zip", "in side.mp4"),
        ("zip://folder/c.mp4::https://host/films.zip?token=secret", "c.mp4"),
        ("/home/me/d#1?.mp4", "d#1?.mp4"),
    ],
)
def test_names_hold_no_local_paths(address, name):
    assert Source(address).name == name


def test_lists_with_marks_and_gone_files(videos, tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfvideos/a.mp4\nvideos/gone [1].mp4\n")
    assert [Path(source.address).name for source in find_sources([str(tmp_path / "list.txt")])] == [
        "a.mp4",
        "gone [1].mp4",
    ]
    (tmp_path / "latin.txt").write_bytes("\u00e9.mp4".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.txt: not UTF-8"):
        find_sources([str(tmp_path / "latin.txt")])


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "localhost",
            "169.254.169.254",
            "10.0.0.1",
            "192.168.1.1",
            "0.0.0.0",
        ),
        *("2130706433", "127.1", "user:word@127.0.0.1"),
    ],
)
def test_private_addresses_are_read_only_if_allowed(host, tmp_path):
    (tmp_path / "list.txt").write_text(f"http://{host}:9/a.mp4\n")
    (source,) = find_sources([str(tmp_path / "list.txt")])
    with pytest.raises(SourceError, match="is an address of this machine"), fetched(source, tmp_path, 100):
        pass
    with pytest.raises(ValueError, match="is an address of this machine or its network"):
        find_sources([f"http://{host}:9/videos/*.mp4"])


@pytest.mark.parametrize("host", ["64:ff9b::a9fe:a9fe", "::127.0.0.1", "::ffff:10.0.0.1", "::1", "fe80::1"])
def test_private_addresses_within_those_of_ipv6_are_refused(host):
    with pytest.raises(PrivateAddressError):
        check_host(host)
    check_host("64:ff9b::808:808")


@pytest.mark.parametrize(
    "address", ["reference://x.mp4::file:///refs.json", "reference::file:///refs.json", "webdav://host/x.mp4"]
)
def test_protocols_that_lead_anywhere_are_read_only_if_allowed(address, tmp_path):
    with pytest.raises(SourceError, match="may lead to this machine"), fetched(Source(address), tmp_path, 100):
        pass


@pytest.mark.parametrize("place", ["{server}/names.parquet", "{private}/*.parquet", "../videos/*.mp4"])
def test_cards_name_files_of_their_dataset_only(place, server, videos, tmp_path):
    datasets.Dataset.from_dict({"video": ["a.mp4"]}).to_parquet(videos / "names.parquet")
    (tmp_path / "set").mkdir()
    shutil.copy(videos / "names.parquet", tmp_path / "set")
    path = place.format(server=server, private=videos)
    front = f"configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {path}\n"
    (tmp_path / "set/README.md").write_text(f"---\n{front}---\n")
    with pytest.raises(ValueError, match=r"no file of the dataset|is an address of this machine|can't be loaded"):
        find_sources([str(tmp_path / "set")])


@pytest.mark.parametrize("end", ["\n", "\r"])
@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
def test_nothing_is_sent_to_an_address_of_a_card(name, end, tmp_path):
    """Not even by the `datasets` library, which looks up what a card names."""
    asked = []
    datasets.Dataset.from_dict({"video": ["a.mp4"]}).to_parquet(tmp_path / "set/names.parquet")

    class Listener(SimpleHTTPRequestHandler):
        def handle(self) -> None:
            asked.append(self.client_address)

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://user:word@127.0.0.1:{server.server_address[1]}/a.parquet?sig=secret"
        front = f"configs:\n- config_name: default\n  data_files: {address}\n"
        card = f"---\n{front}---\n" if name == "README.md" else front
        (tmp_path / "set" / name).write_bytes(card.replace("\n", end).encode())
        for read in (
            lambda path: find_sources([path]),
            stream_clips,
            lambda path: ShardSource(kind="shards", data=path).open(),
        ):
            with pytest.raises(
                ValueError, match=r"its card names http://127\.0\.0\.1:\d+/a\.parquet, which is no file"
            ):
                read(str(tmp_path / "set"))
        server.shutdown()
    assert not asked


def test_answers_do_not_lead_to_private_addresses(server, tmp_path, monkeypatch):
    """A name that is public when it is looked up first, and this machine when it is connected to."""
    monkeypatch.setattr("anthrotap_builder.distributed.video_sources.storage_options", lambda *_: OPTIONS)
    (source,) = find_sources([f"{server}/a.mp4"])
    with (
        pytest.raises(SourceError, match=r"127\.0\.0\.1 is an address of this machine"),
        fetched(source, tmp_path, 1 << 20),
    ):
        pass


def test_messages_hold_no_passwords_and_signatures(server, tmp_path):
    address = f"{server}/gone.mp4".replace("http://", "http://me:secret@") + "?X-Amz-Signature=secret&sig=secret#secret"
    (source,) = find_sources([address])
    assert source.address == address
    assert source.display_name == f"{server}/gone.mp4"
    with pytest.raises(SourceError) as caught, fetched(source, tmp_path, 100, allow_private=True):
        pass
    assert "secret" not in str(caught.value)
    assert Source("zip://a.mp4::s3://key:secret@bucket/b.zip?c=secret").display_name == "zip://a.mp4::s3://bucket/b.zip"


def test_folders_of_pictures_are_videos_that_change_with_any_picture(tmp_path):
    for name in ("bear", "camel"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.jpg").write_bytes(bytes(10))
    sources = find_sources([str(tmp_path)])
    assert [source.name for source in sources] == ["bear", "camel"]
    assert [source.size for source in sources] == [30, 30]
    (tmp_path / "bear/2.jpg").write_bytes(bytes(11))
    assert [a.key == b.key for a, b in zip(sources, find_sources([str(tmp_path)]), strict=True)] == [False, True]
    with fetched(sources[0], tmp_path, 100) as (path, name):
        assert (path, name) == (tmp_path / "bear", "bear")
