"""Files that are whole or absent: write beside the target, then rename; locks on them; and reading
within a limit, so that what is no such file fills no memory."""

from __future__ import annotations

import ctypes
import json
import lzma
import os
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

# what reading a zip archive (.npz) that is cut or changed may raise, beside OSError and ValueError;
# RuntimeError for entries said to be encrypted or of an odd method
BROKEN_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError,
    RuntimeError, MemoryError,
)  # fmt: skip


FREE_BYTES = 2**28  # that any archive may unpack to
MAX_EXPANSION = 100  # beyond them; photographs and curves shrink to a half or a tenth


def write_atomically(
    path: str | os.PathLike[str], content: str | bytes | Callable[[BinaryIO], None]
) -> None:
    """Write text, bytes, or what a function writes to an open binary file, all or nothing.

    Missing parent folders are made. Raises ValueError, naming the path, when it cannot be written.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name with nothing in it
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes private files; outputs are ordinary
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise ValueError(f"{path}: cannot write: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def read_bounded(path: str | os.PathLike[str], limit: int, what: str) -> bytes:
    """All bytes of a file of at most `limit` bytes; also of a pipe, which has no size to ask for.

    what: it should be, in words, such as "bit widths". Raises ValueError, naming the path, when it
    cannot be read or is longer.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot read {what}: {error.strerror or error}") from None
    if len(content) > limit:
        raise ValueError(f"{path}: more than {limit:,} bytes are no {what}")
    return content


def read_json(path: str | os.PathLike[str], limit: int, what: str) -> Any:
    """What a JSON file of at most `limit` bytes says. Raises ValueError as `read_bounded`, and for
    what is no JSON in UTF-8, is nested too deeply or has endless numbers."""
    content = read_bounded(path, limit, what)
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file of {what}: {error}") from None


def check_archive(path: str | os.PathLike[str], archive: zipfile.ZipFile) -> None:
    """Raise ValueError for an archive that would unpack to far more than its own size: a few
    kilobytes of zip may stand for terabytes of zeros."""
    unpacked = sum(entry.file_size for entry in archive.infolist())
    allowed = FREE_BYTES + MAX_EXPANSION * sum(e.compress_size for e in archive.infolist())
    if unpacked > allowed:
        raise ValueError(
            f"{path}: unpacks to {unpacked:,} bytes, far more than its own size allows; arrays "
            f"of mostly one value are to be stored uncompressed (numpy.savez)"
        )


@contextmanager
def locked(path: str | os.PathLike[str], wait: bool = False) -> Iterator[None]:
    """Hold a file or folder for this process alone, by a lock file beside it.

    The lock goes with its process, however that ends. wait: until another lets go; otherwise
    raises ValueError, naming the path, if another process holds it. Missing parent folders are
    made. Where the system has no `flock` (Windows), nothing is held.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    target = Path(path)
    lock = target.parent / f".{target.name}.lock"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                if os.path.samestat(os.fstat(handle), os.stat(lock)):
                    break
            except FileNotFoundError:
                pass  # its last holder removed it meanwhile: that was another file
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)
    except BlockingIOError:
        raise ValueError(
            f"{target}: another run of chipfit is at it; let it finish, or give another name"
        ) from None
    except OSError as error:
        raise ValueError(f"{target}: cannot write: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def exchange(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Swap the names of two files or folders in one step; whether the system could (Linux)."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "renameat2"):
        return False
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return libc.renameat2(here, os.fsencode(one), here, os.fsencode(other), swap) == 0
