"""chipfit run: the main job, and the folder that it leaves."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from analysis.figures import study_figures
from analysis.manifest import MANIFEST, build_manifest, json_bytes, sealed
from analysis.report import write_report
from analysis.study import Study
from analysis.tables import layer_table, summary_table
from hwsim.files import exchange, locked


def run_files(
    study: Study,
    command: list[str],
    options: Mapping[str, object],
    inputs: Mapping[str, str | None],
) -> dict[str, bytes]:
    """{path inside the folder: content} of everything that a run leaves."""
    figures = study_figures(study)
    files: dict[str, bytes] = {
        "allocation.json": json_bytes(study.main.allocation.to_json()),
        "layers.csv": layer_table(study).to_csv(index=False).encode(),
        "summary.csv": summary_table(study).to_csv(index=False).encode(),
    }
    for variant in study.variants:
        name = variant.name.replace(", ", "_").replace(" ", "_")
        files[f"allocations/{name}.json"] = json_bytes(variant.allocation.to_json())
    for figure in figures:
        files[f"figures/{figure.name}.svg"] = figure.svg
        files[f"figures/{figure.name}.png"] = figure.png
        files[f"figures/{figure.name}.csv"] = figure.table.to_csv(index=False).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "curves.npz"
        study.curves.save(path)
        files["curves.npz"] = path.read_bytes()
    manifest = build_manifest(command, options, inputs, files, study.seconds)
    made = {key: manifest[key] for key in ("made", "versions", "platform")}
    files["report.html"] = write_report(study, figures, command, made).encode()
    files[MANIFEST] = json_bytes(manifest)
    return files


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Raise ValueError unless a run may write `folder`: it is absent, empty, or an earlier run."""
    target = Path(folder)
    if os.path.exists(target) and not target.is_dir():
        raise ValueError(f"{target}: is a file; give the name of a folder")
    if os.path.isdir(target) and any(target.iterdir()) and not (target / MANIFEST).is_file():
        raise ValueError(
            f"{target}: is not empty and not an earlier run (it has no {MANIFEST}); give another "
            f"folder"
        )


def write_folder(folder: str | os.PathLike[str], files: Mapping[str, bytes]) -> None:
    """Write all files beside the target, then rename: the folder is whole, old or new, whatever
    is killed (on systems that cannot swap names, absent for a moment). Of runs that end together
    the last one stays."""
    with locked(folder, wait=True):
        _write_folder(Path(folder), sealed(files))


def _write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    check_folder(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise ValueError(f"{target}: cannot write: {error.strerror or error}") from None
    try:
        fresh = temporary / "new"
        for name, content in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if target.exists() and exchange(fresh, target):
            return
        old = temporary / "old"
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)  # nothing is lost
            raise
    except OSError as error:
        raise ValueError(f"{target}: cannot write: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
