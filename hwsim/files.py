"""Files that are whole or absent: write beside the target, then rename."""

from __future__ import annotations

import lzma
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

# what reading a zip archive (.npz) that is cut or changed may raise, beside OSError and ValueError;
# RuntimeError for entries said to be encrypted or of an odd method
BROKEN_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError,
    RuntimeError, MemoryError,
)  # fmt: skip


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
