"""The ledger: what was added is there, whatever came after; and it is no other file."""

from __future__ import annotations

import sqlite3
from dataclasses import fields, replace
from multiprocessing import get_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.scale import Ledger, Runner, Task, code_version, key_of
from hwsim.accelerator import load_accelerator
from hwsim.files import locked, write_atomically

numbers = st.integers() | st.floats(allow_nan=False)
plain = st.recursive(
    numbers | st.text() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(values=st.dictionaries(st.binary(min_size=16, max_size=16), plain, max_size=5))
def test_a_ledger_gives_back_what_was_added_to_the_bit(values):
    with Ledger(None) as ledger:
        ledger.add(values.items())
        assert ledger.known([*values, b"?" * 16]) == values
        assert len(ledger) == len(values)


def test_results_are_there_after_closing_and_only_once(tmp_path):
    path = tmp_path / "a ledger of Zürich.ledger"
    with Ledger(path) as ledger:
        ledger.add([(key_of(i), i) for i in range(1200)])
    with Ledger(path) as ledger:
        assert ledger.known([key_of(i) for i in range(1300)]) == {key_of(i): i for i in range(1200)}
        with pytest.raises(sqlite3.IntegrityError):
            ledger.add([(key_of(1300), 0), (key_of(7), 7)])
        assert len(ledger) == 1200  # all or none
    assert sorted(item.name for item in tmp_path.iterdir()) == [path.name]  # no lock, no journal


def test_equal_keys_are_computed_once_and_known_ones_never(tmp_path):
    asked = []

    def tasks(missing: list[int]) -> list[Task]:
        asked.append(missing)
        return [Task(tuple(missing[:2]), (missing[:2],)), Task(tuple(missing[2:]), (missing[2:],))]

    shown = []
    for extra in (0, 2):
        keys = [key_of(i % 3) for i in range(5 + extra)] + [key_of("new", i) for i in range(extra)]
        with Ledger(tmp_path / "l") as ledger:
            found = Runner(ledger).results(
                keys, lambda positions: [(i, 0.1) for i in positions], tasks,
                lambda done, of: shown.append((done, of)),
            )  # fmt: skip
        assert found[:5] == [[0, 0.1], [1, 0.1], [2, 0.1], [0, 0.1], [1, 0.1]]
    assert asked == [[0, 1, 2], [7, 8]]
    assert shown == [(2, 3), (3, 3), (3, 5), (5, 5), (5, 5)]


@pytest.mark.parametrize("content", [b"no database, but long enough to be one" * 40, b"SQL"])
def test_another_file_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other: not a whole ledger .* give another --ledger"):
        Ledger(path)
    assert path.read_bytes() == content
    assert [item.name for item in tmp_path.iterdir()] == ["other"]


def test_a_database_of_another_program_and_a_folder_are_refused(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE mine (x)")
    file.close()
    with pytest.raises(ValueError, match="not a ledger of this version"):
        Ledger(path)
    with pytest.raises(ValueError, match="is a folder"):
        Ledger(tmp_path)


def test_a_cut_ledger_is_named_rather_than_believed(tmp_path):
    path = tmp_path / "cut"
    with Ledger(path) as ledger:
        ledger.add([(key_of(i), "x" * 200) for i in range(200)])
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(ValueError, match="cut: not a whole ledger"):
        Ledger(path).known([key_of(i) for i in range(200)])


def hold(path, ready, leave):
    with locked(path):
        ready.set()
        leave.wait()


def test_a_ledger_that_another_run_holds_is_refused_until_that_run_is_dead(tmp_path):
    context = get_context("spawn")
    ready, leave = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / "l", ready, leave))
    process.start()
    assert ready.wait(10)
    with pytest.raises(ValueError, match="another run of chipfit is at it"):
        Ledger(tmp_path / "l")
    process.kill()  # with no chance to remove its lock
    process.join()
    Ledger(tmp_path / "l").close()
    process.close()


def test_a_lock_that_waits_gets_its_turn(tmp_path):
    context = get_context("spawn")
    ready, leave = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / "l", ready, leave))
    process.start()
    assert ready.wait(10)
    leave.set()
    with locked(tmp_path / "l", wait=True):
        write_atomically(tmp_path / "l", "mine")
    process.join()
    assert [item.name for item in tmp_path.iterdir()] == ["l"]


@pytest.mark.parametrize("name", ["tpu_v1", "eyeriss_v1"])
def test_every_field_of_an_accelerator_is_in_its_key(name):
    accelerator = load_accelerator(name)
    others = [replace(accelerator, clock=1), replace(accelerator, name="x")]
    for field in fields(accelerator.array):
        value = getattr(accelerator.array, field.name)
        if isinstance(value, int) and not isinstance(value, bool) and field.name != "gbuf_banks":
            changed = replace(accelerator.array, **{field.name: value + 1})
            others.append(replace(accelerator, array=changed))
    for i, memory in enumerate(accelerator.memory):
        larger = replace(memory, capacity=memory.capacity * 2)
        memories = (*accelerator.memory[:i], larger, *accelerator.memory[i + 1 :])
        try:
            others.append(replace(accelerator, memory=memories))
        except ValueError:
            continue  # a size that no such chip can have
    keys = {key_of(chip) for chip in [accelerator, *others]}
    assert len(keys) == 1 + len(others)
    assert key_of(load_accelerator(name)) == key_of(accelerator)


def test_keys_change_with_the_sources(tmp_path, monkeypatch):
    package = tmp_path / "a_package_of_one_file"
    package.mkdir()
    (package / "__init__.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = code_version(package.name)
    assert code_version(package.name) == before
    (package / "__init__.py").write_text("x = 2\n")
    code_version.cache_clear()
    assert code_version(package.name) != before
    assert code_version("hwsim") != code_version("hwsim", "quant")
