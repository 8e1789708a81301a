"""Files of rows: there whole or not at all, and no damage passes for data."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from anthrotap_builder.utils.row_file import DamagedRowsError, RowReader, atomic_rows


def table(number: int) -> pa.Table:
    video = np.random.default_rng(number).bytes(600)
    names = {name: [f"{name}-{number}"] for name in ("clip_id", "source_sha256", "frames_sha256")}
    return pa.table({**names, "video": [video], "tracks": [[float(number), 2.5]]})


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.rows"
    with atomic_rows(path) as rows:
        for number in range(2):
            rows.write(table(number))
        rows.notes["made by"] = "a test"
    return path


def test_rows_come_back(file):
    reader = RowReader(file)
    assert [reader.row(number) for number in range(len(reader))] == [table(0), table(1)]
    assert reader.notes == {"made by": "a test"}
    second = reader.index()[1]
    assert (second.clip_id, second.source_sha256, second.file, second.number) == (
        "clip_id-1",
        "source_sha256-1",
        file,
        1,
    )


def test_no_damage_passes_for_data(file):
    whole = file.read_bytes()
    index = RowReader(file).index()
    caught = 0
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 255
        file.write_bytes(damaged)
        try:
            reader = RowReader(file)
            found = [reader.row(number) for number in range(len(reader))]
        except DamagedRowsError:
            caught += 1
        else:
            assert reader.index() == index
            assert found == [table(0), table(1)]
    assert caught == len(range(0, len(whole), 3))


def test_a_file_cut_short_is_damaged(file):
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DamagedRowsError, match="damaged"):
        RowReader(file)


def test_nothing_is_left_of_a_writer_that_failed(tmp_path):
    with pytest.raises(AttributeError), atomic_rows(tmp_path / "a.rows") as rows:
        rows.write(None)
    with pytest.raises(KeyError), atomic_rows(tmp_path / "a.rows") as rows:
        rows.write(table(0).drop("clip_id"))
    with atomic_rows(tmp_path / "b.rows"):
        pass
    assert list(tmp_path.iterdir()) == []
