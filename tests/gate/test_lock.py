"""The lock gives back what was put in, merges, and knows lines that it did not write."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geofilter.errors import LockError
from geofilter.gate.lock import Entry, Header, read_lock, row_key, update_lock
from geofilter.support.display import escape
from helpers.gate_folder import merge

HEADER = Header({"model": "m"}, {"weights": "w"}, {"torch": "1"})
OTHER = Header({"model": "m"}, {"weights": "v"}, {"torch": "1"})

scores = st.floats(width=32, allow_nan=False, allow_infinity=False)
# Reasons of the score table are escaped already; a forged lock may hold anything.
entries = st.builds(Entry, scores, st.just("scored"), st.none() | st.text(max_size=50)) | st.builds(
    Entry, st.none(), st.sampled_from(["unreadable", "no_response"]), st.text(max_size=50)
)
keys = st.text("0123456789abcdef", min_size=32, max_size=32)


def key(number: int) -> str:
    return row_key(str(number), "messages", {})


def some(count: int, start: int = 0) -> dict[str, Entry]:
    return {key(i): Entry(float(np.float32(i / 7)), "scored") for i in range(start, start + count)}


def entries_of(path: Path) -> dict[str, Entry]:
    lock = read_lock(path)
    assert lock is not None
    assert lock.edited == ()
    return dict(lock.entries)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(keys, entries, max_size=5))
def test_a_lock_gives_every_entry_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, wanted: dict[str, Entry]
) -> None:
    path = tmp_path_factory.mktemp("lock") / "geofilter.lock"
    update_lock(path, HEADER, wanted)
    assert entries_of(path) == wanted
    assert path.read_bytes().isascii()
    assert len(path.read_text().splitlines()) == 2 + len(wanted)


def test_there_is_no_lock_before_the_first_entry(tmp_path: Path) -> None:
    assert read_lock(tmp_path / "geofilter.lock") is None


def test_adding_what_is_there_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "geofilter.lock"
    assert update_lock(path, HEADER, some(5))
    before = path.stat().st_mtime_ns, path.stat().st_ino
    assert not update_lock(path, HEADER, some(3))
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


@pytest.mark.parametrize("place", range(12))
def test_a_changed_character_of_a_line_is_known(tmp_path: Path, place: int) -> None:
    path = tmp_path / "geofilter.lock"
    update_lock(path, HEADER, some(3))
    lines = path.read_text().splitlines()
    spot = place * len(lines[3]) // 12
    other = "1" if lines[3][spot] != "1" else "2"
    lines[3] = lines[3][:spot] + other + lines[3][spot + 1 :]
    path.write_text("\n".join(lines) + "\n")
    lock = read_lock(path)
    assert lock is not None
    assert lock.edited == (4,)
    assert len(lock.entries) == 2


def test_lines_of_a_lock_of_other_settings_are_known(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    update_lock(mine, HEADER, some(2))
    update_lock(theirs, OTHER, some(2, start=5))
    with mine.open("a") as handle:
        handle.write(theirs.read_text().splitlines()[-1] + "\n")
    lock = read_lock(mine)
    assert lock is not None
    assert lock.edited == (5,)


def test_a_header_made_to_fit_other_settings_betrays_every_line(tmp_path: Path) -> None:
    path = tmp_path / "geofilter.lock"
    update_lock(path, HEADER, some(4))
    path.write_text(path.read_text().replace('"weights": "w"', '"weights": "v"'))
    lock = read_lock(path)
    assert lock is not None
    assert lock.edited == (3, 4, 5, 6)


def test_a_lock_of_other_settings_is_not_added_to(tmp_path: Path) -> None:
    path = tmp_path / "geofilter.lock"
    update_lock(path, HEADER, some(4))
    before = path.read_bytes()
    with pytest.raises(LockError, match="something else"):
        update_lock(path, OTHER, some(1, start=9))
    assert path.read_bytes() == before
    assert update_lock(path, OTHER, some(1, start=9), replace=True)
    assert entries_of(path) == some(1, start=9)


def test_only_the_keys_to_keep_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "geofilter.lock"
    update_lock(path, HEADER, some(6))
    assert update_lock(path, HEADER, {}, keep_only=set(some(2)))
    assert entries_of(path) == some(2)


DAMAGE = {
    "empty": (b"", "not a geofilter lock"),
    "not ASCII": ("# geofilter lock 1: é\n".encode(), "bytes that no lock holds"),
    "another format": (b"# geofilter lock 2: scores\n{}\n", "format 2"),
    "no header": (b"# geofilter lock 1: scores\n", "made with"),
    "a header of nothing": (b"# geofilter lock 1: scores\n{}\n", "made with"),
    "a header of lists": (
        b'# geofilter lock 1: s\n{"asked":[],"decides":[1],"versions":{}}\n',
        "made with",
    ),
    "a header of pairs": (
        b'# geofilter lock 1: s\n{"asked":[],"decides":[["a",1]],"versions":{}}\n',
        "made with",
    ),
    "a deep header": (b"# geofilter lock 1: s\n" + b"[" * 8000 + b"\n", "made with"),
    "a conflict on top": (b"<<<<<<< HEAD\n", "merge conflict"),
    "one endless line": (b"# geofilter lock 1: " + b"x" * 100_000, "longer than any line"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_no_lock_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    content, words = DAMAGE[name]
    path = tmp_path / "geofilter.lock"
    path.write_bytes(content)
    with pytest.raises(LockError, match=words) as caught:
        read_lock(path)
    assert escape(str(caught.value), limit=None) == str(caught.value)
    assert "--rescore" in str(caught.value)
    assert update_lock(path, HEADER, some(1), replace=True)
    assert entries_of(path) == some(1)


FOREIGN = {
    "rows": b'{"name": "x"}\n',
    "rows in a long line": b'{"name": "' + b"x" * 100_000 + b'"}\n',
    "rows behind an empty line": b'\n{"name": "x"}\n',
    "compressed rows": b"\x1f\x8b\x08\x00\xff\n",
    "a note about locks": b"## geofilter lock 1: scores\n",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_never_was_a_lock_is_not_written_over(tmp_path: Path, name: str) -> None:
    """A policy may name the data set itself by mistake."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(FOREIGN[name])
    with pytest.raises(LockError, match="correct lock in the policy") as read:
        read_lock(path)
    assert "--rescore" not in str(read.value)
    for replace in (True, False):
        with pytest.raises(LockError, match="is not written over"):
            update_lock(path, HEADER, some(1), replace=replace)
    assert path.read_bytes() == FOREIGN[name]


def test_lines_that_are_no_entries_are_edited_lines(tmp_path: Path) -> None:
    path = tmp_path / "geofilter.lock"
    update_lock(path, HEADER, some(1))
    with path.open("a") as handle:
        handle.write(
            "\n<script>\n" + key(7) + " nan scored - 00\n" + key(8) + " 1e999 scored - 0\n"
        )
        handle.write(key(9) + " 0.5 scored " + "[" * 5000 + " 0\n")
    lock = read_lock(path)
    assert lock is not None
    assert lock.edited == (4, 5, 6, 7, 8)
    assert lock.entries == some(1)


def test_of_two_scores_of_a_row_the_higher_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "geofilter.lock"
    update_lock(path, HEADER, {key(1): Entry(0.25, "scored")})
    for score in (0.125, 0.5):
        with path.open("a") as handle:
            handle.write(HEADER.line_of(key(1), Entry(score, "scored")) + "\n")
    assert entries_of(path) == {key(1): Entry(0.5, "scored")}


def test_a_score_and_no_score_of_one_row_are_a_contradiction(tmp_path: Path) -> None:
    path = tmp_path / "geofilter.lock"
    update_lock(path, HEADER, {key(1): Entry(0.25, "scored")})
    with path.open("a") as handle:
        handle.write(HEADER.line_of(key(1), Entry(None, "empty", "nothing")) + "\n")
    with pytest.raises(LockError, match="something else about a row"):
        read_lock(path)


def test_the_key_of_a_row_depends_on_how_it_is_read() -> None:
    one = row_key("h", "prompt-response", {"prompt": "prompt", "response": "response"})
    other = row_key("h", "prompt-response", {"prompt": "prompt", "response": "reply"})
    assert len({one, other, row_key("h", "text", {}), row_key("g", "text", {})}) == 4


def _add(path: str, worker: int) -> None:
    for turn in range(10):
        update_lock(Path(path), HEADER, some(3, start=100 * worker + 3 * turn))


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "geofilter.lock"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add, args=(str(path), w)) for w in range(6)]
    for worker in workers:
        worker.start()
    # Whoever reads meanwhile sees a whole lock.
    while any(worker.is_alive() for worker in workers):
        lock = read_lock(path)
        assert lock is None or lock.edited == ()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    wanted = {k: e for w in range(6) for k, e in some(30, start=100 * w).items()}
    assert entries_of(path) == wanted
    assert os.listdir(tmp_path) == ["geofilter.lock"]


def test_git_merges_the_rows_of_two_branches(tmp_path: Path) -> None:
    path = merge(
        tmp_path,
        lambda path: update_lock(path, HEADER, some(3)),
        lambda path: update_lock(path, HEADER, some(40, start=10)),
        lambda path: update_lock(path, HEADER, some(40, start=50)),
    )
    assert entries_of(path) == some(3) | some(40, start=10) | some(40, start=50)


LATER = Header(HEADER.asked, HEADER.decides, {"torch": "2"})


def test_git_merges_two_first_locks(tmp_path: Path) -> None:
    path = merge(
        tmp_path,
        None,
        lambda path: update_lock(path, HEADER, some(40)),
        lambda path: update_lock(path, LATER, some(40, start=30)),
    )
    assert entries_of(path) == some(70)
    # The next row leaves one head.
    update_lock(path, HEADER, some(1, start=99))
    assert len(path.read_text().splitlines()) == 2 + 71


def test_git_merges_locks_scored_again_with_other_versions(tmp_path: Path) -> None:
    third = Header(HEADER.asked, HEADER.decides, {"torch": "3"})
    path = merge(
        tmp_path,
        lambda path: update_lock(path, HEADER, some(9)),
        lambda path: update_lock(path, LATER, some(10), replace=True),
        lambda path: update_lock(path, third, some(9) | some(1, start=50), replace=True),
    )
    heads = [line for line in path.read_text().splitlines() if line.startswith("{")]
    assert len(heads) == 2
    assert entries_of(path) == some(10) | some(1, start=50)


def test_a_second_head_of_other_settings_is_an_edited_line(tmp_path: Path) -> None:
    path = tmp_path / "geofilter.lock"
    update_lock(path, OTHER, some(1))
    foreign = path.read_text().splitlines()
    path.unlink()
    update_lock(path, HEADER, some(1))
    with path.open("a") as handle:
        handle.write("\n".join([*foreign, "# geofilter lock 2: scores", "{}"]) + "\n")
    lock = read_lock(path)
    assert lock is not None
    assert lock.edited == (5, 6, 7, 8)


def test_two_branches_may_have_other_reasons_for_no_score_of_a_row(tmp_path: Path) -> None:
    """A reason names columns of the file that the row was first met in."""
    one, other = (Entry(None, "no_response", f"has no {name}") for name in ("reply", "answer"))
    path = merge(
        tmp_path,
        lambda path: update_lock(path, HEADER, some(3)),
        lambda path: update_lock(path, HEADER, {key(7): one}),
        lambda path: update_lock(path, HEADER, {key(7): other}),
    )
    assert len(path.read_text().splitlines()) == 2 + 3 + 2
    assert entries_of(path)[key(7)] in (one, other)
