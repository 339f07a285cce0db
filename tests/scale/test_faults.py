"""Real processes, really killed: nothing is lost, nothing is done twice, exit codes are right."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from naps import logged, naps
from processes import alive, children, command, kept, squares, start, until

from analysis.scale import Ledger, Task, key_of, opened

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")


def test_any_number_of_workers_gives_the_same_results_in_the_same_order(tmp_path):
    with opened(None) as runner:
        alone = naps(runner, 30, 0.0, tmp_path / "one")
    with opened(None, workers=2) as runner:
        assert naps(runner, 30, 0.0, tmp_path / "two") == alone == squares(30)
    assert sorted(logged(tmp_path / "two")) == list(range(30))


def test_a_killed_worker_costs_only_what_it_was_at(tmp_path):
    """Both workers are killed once, in the middle of 12 tasks."""
    run = start(command(tmp_path, 12, 0.4, "--workers", "2"))
    log = tmp_path / "log"
    until(lambda: len(logged(log)) >= 3)
    workers = {int(line.split()[1]) for line in log.read_text().splitlines()}
    os.kill(workers.pop(), signal.SIGKILL)
    out, errors = run.communicate(timeout=60)
    assert (run.returncode, errors) == (0, "")
    assert out.strip() == str(squares(12))
    times = Counter(logged(log))
    assert set(times) == set(range(12))
    assert sum(times.values()) <= 12 + 3  # those of the broken pool that were under way
    assert kept(tmp_path) == {i: i * i for i in range(12)}


def fatal(number: int, log: str) -> list[int]:
    with Path(log).open("a") as file:
        file.write(f"{number} {os.getpid()}\n")
    if number == 3:
        os._exit(1)
    if number == 100:
        raise ValueError("a design that no chip can have")
    return [number]


def test_a_task_that_always_kills_its_worker_is_given_up_after_three_times_and_all_else_is_done(
    tmp_path,
):
    with opened(tmp_path / "ledger", workers=2) as runner:
        with pytest.raises(ValueError, match=r"1 of 8 tasks lost their workers 3 times .*/ledger"):
            runner.results(
                [key_of(i) for i in range(8)], fatal,
                lambda missing: [Task((i,), (i, str(tmp_path / "log"))) for i in missing],
            )  # fmt: skip
        known = runner.ledger.known([key_of(i) for i in range(8)])
    assert sorted(known.values()) == [0, 1, 2, 4, 5, 6, 7]
    assert logged(tmp_path / "log").count(3) == 3


def test_a_mistake_in_one_task_ends_the_run_with_its_message_and_keeps_the_others(tmp_path):
    numbers = (0, 1, 2, 100)
    tasks = [Task((place,), (i, str(tmp_path / "log"))) for place, i in enumerate(numbers)]
    with (
        opened(tmp_path / "ledger", workers=2) as runner,
        pytest.raises(ValueError, match="a design that no chip can have"),
    ):
        runner.results([key_of(i) for i in numbers], fatal, lambda _: tasks)
    with Ledger(tmp_path / "ledger") as ledger:
        assert len(ledger) <= 3


@needs_proc
def test_a_killed_driver_leaves_its_results_and_no_process(tmp_path):
    arguments = command(tmp_path, 10, 0.3, "--workers", "2")
    run = start(arguments)
    until(lambda: (tmp_path / "ledger").exists() and len(logged(tmp_path / "log")) >= 4)
    family = children(run.pid)
    assert len(family) >= 2
    run.kill()
    run.wait()
    until(lambda: not any(map(alive, family)), 5)
    before = kept(tmp_path)
    done = Counter(logged(tmp_path / "log"))
    assert len(before) >= 2
    again = start(arguments)
    out, errors = again.communicate(timeout=60)
    assert (again.returncode, errors) == (0, "")
    assert out.strip() == str(squares(10))
    new = Counter(logged(tmp_path / "log")) - done
    assert set(new) == set(range(10)) - set(before)  # all that was missing, and nothing twice
    assert set(new.values()) == {1}
    assert {item.name for item in tmp_path.iterdir()} == {"ledger", "log"}  # no lock, no journal


def test_ctrl_c_ends_with_130_and_says_where_to_go_on(tmp_path):
    run = start(command(tmp_path, 40, 0.2, "--workers", "2"))
    until(lambda: len(logged(tmp_path / "log")) >= 4)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the driver and to all workers
    _, errors = run.communicate(timeout=20)
    assert run.returncode == 130
    assert errors == (
        f"chipfit: interrupted; what was done is in {tmp_path / 'ledger'}; the same command goes "
        f"on from there\n"
    )
    assert 3 <= len(kept(tmp_path)) < 40


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def large(number: int) -> list[str]:
    return [str(number) * 4000]


def large_tasks(missing: list[int]) -> list[Task]:
    return [Task((i,), (i,)) for i in missing]


def test_a_full_disk_is_one_line_and_keeps_what_was_done(tmp_path):
    keys = [key_of(i) for i in range(60)]
    with small_disk(tmp_path / "small", "128k") as disk:
        done = []
        for _ in range(2):  # still full: what is there is read, and the same is said again
            with opened(disk / "ledger") as runner:
                with pytest.raises(ValueError, match=r"ledger: .* full; what was done before is k"):
                    runner.results(keys, large, large_tasks)
                done.append(runner.ledger.known(keys))
        assert done[0] == done[1] == {keys[i]: large(i)[0] for i in range(len(done[0]))}
        assert 5 < len(done[0]) < 60
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)  # space again
        with opened(disk / "ledger") as runner:
            computed = []

            def tasks(missing: list[int]) -> list[Task]:
                computed.extend(missing)
                return large_tasks(missing)

            assert runner.results(keys, large, tasks) == [large(i)[0] for i in range(60)]
        assert computed == list(range(len(done[0]), 60))


def test_a_full_disk_leaves_an_output_folder_as_it_was(tmp_path):
    from analysis.run import write_folder

    with small_disk(tmp_path / "small", "256k") as disk:
        write_folder(disk / "run", {"manifest.json": b"{}", "table.csv": b"x" * 50_000})
        with pytest.raises(ValueError, match=r"run: cannot write: No space left"):
            write_folder(disk / "run", {"manifest.json": b"{}", "table.csv": b"y" * 400_000})
        assert (disk / "run" / "table.csv").read_bytes() == b"x" * 50_000
        assert [item.name for item in disk.iterdir()] == ["run"]


def test_a_ledger_where_nothing_can_be_written_is_one_line(tmp_path):
    run = start(command(Path("/proc"), 2, 0.0))
    out, errors = run.communicate(timeout=20)
    assert (run.returncode, out) == (2, "")
    assert errors.startswith("chipfit: error: /proc/ledger: cannot write: ")
    assert errors.count("\n") == 1


def test_nothing_is_done_before_the_ledger_is_open(tmp_path):
    (tmp_path / "ledger").write_text("a diary")
    run = start(command(tmp_path, 2, 0.0, "--workers", "2"))
    _, errors = run.communicate(timeout=20)
    assert run.returncode == 2
    assert "not a whole ledger" in errors
    assert logged(tmp_path / "log") == []


@needs_proc
def test_workers_in_the_middle_of_long_tasks_do_not_outlive_their_driver(tmp_path):
    run = start(command(tmp_path, 2, 60.0, "--workers", "2"))
    until(lambda: len(children(run.pid)) >= 3)  # the workers, and what cleans up after them
    time.sleep(3.0)  # so that they are at their tasks
    family = children(run.pid)
    run.kill()
    run.wait()
    until(lambda: not any(map(alive, family)), 8)
