"""A bundle's folder: written beside its place and moved there whole; read only where it is what the manifest says."""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fouriercache.bundle.joints import check_joints
from fouriercache.bundle.manifest import MANIFEST, File, Manifest, read_manifest
from fouriercache.bundle.trajectories import check_trajectory
from fouriercache.errors import BundleError
from fouriercache.paths import path_of

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")
_CHUNK = 2**22
_LARGEST_MANIFEST = 2**28
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def file_of(path: Path) -> File:
    """Return size and SHA-256 of a file.

    Raises OSError when it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return File(size, digest.hexdigest())


def read_folder(folder: Path) -> Manifest:
    """Return the manifest of a bundle, every file of which was found to be the one it names.

    Raises BundleError when the folder is no bundle, a file is missing, cut short, changed, a link, or outside of it.
    """
    if folder.is_file():
        raise BundleError(
            f"{folder} is a file, and a bundle is given by its folder.\n  Give {folder.parent}, if that is it."
        )
    if not folder.is_dir():
        raise BundleError(
            f"there is no folder {folder}, so no bundle can be loaded from it.\n"
            "  Give the folder that `fouriercache export` or fc.export wrote."
        )
    path = folder / MANIFEST
    try:
        if not path.exists():
            raise BundleError(
                f"the folder holds no bundle: there is no {MANIFEST} in it.\n"
                "  An export that was broken off leaves none; export again."
            )
        manifest = read_manifest(_read_small(path))
        for name, file in manifest.files.items():
            _check_file(folder, name, file)
        _check_named(manifest)
        check_trajectory(manifest)
        for number, form in enumerate(manifest.forms):
            check_joints(form, f"forms[{number}]", manifest.method.predictor.history)
    except OSError as error:
        raise BundleError(f"the bundle cannot be read: {error}.\n  where: {folder}") from error
    except BundleError as error:
        error.add_note(f"  where: {folder}")
        if "\n" not in str(error):  # else it says itself what to do
            error.add_note("  Copy the bundle again, whole, or export it again.")
        raise
    return manifest


def _check_named(manifest: Manifest) -> None:
    """Refuse what is named by a form, and is none of the files that were checked: it could lie anywhere."""
    named = {graph.file for form in manifest.forms for graph in form.graphs()}
    texts = {parts.text: parts.digest for form in manifest.forms for parts in form.parts()}
    missing = (named | set(texts)) - set(manifest.files)
    if missing:
        raise BundleError(f"the bundle's manifest has no checksum for {', '.join(sorted(missing))}.")
    for text, digest in texts.items():
        if manifest.files[text].sha256 != digest:
            raise BundleError(f"{text} is not the text of the graphs that the manifest describes: its digest differs.")


def _read_small(path: Path) -> str:
    _check_kind(path)
    if path.stat().st_size > _LARGEST_MANIFEST:
        raise BundleError(f"{path.name} is larger than any manifest.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"the bundle's {path.name} is no text: {error}.") from error


def _check_file(folder: Path, name: str, file: File) -> None:
    if not _NAME.fullmatch(name):
        raise BundleError(f"the bundle's manifest names the file {name!r}; every file lies in the bundle's own folder.")
    path = folder / name
    if not os.path.lexists(path):
        raise BundleError(f"the bundle lacks {name}, which its manifest names.\n  Copy it whole, or export again.")
    _check_kind(path)
    found = file_of(path)
    if found.bytes != file.bytes:
        raise BundleError(
            f"{name} has {found.bytes} bytes where the manifest records {file.bytes}: it was cut or changed."
        )
    if found.sha256 != file.sha256:
        raise BundleError(f"{name} is not the file that the manifest records: its SHA-256 is another.")


def _check_kind(path: Path) -> None:
    """Refuse what may be a way out of the folder."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise BundleError(f"{path.name} is no plain file: a bundle takes no links, folders or devices.")
    if found.st_nlink > 1:
        raise BundleError(
            f"{path.name} is a hard link: the same file stands under another name, and could be changed there.\n"
            "  Copy the bundle instead of linking its files."
        )


def folder_of(path: object) -> Path:
    """Return the path of a bundle's folder. Raises BundleError when it is no path."""
    if not isinstance(path, str | os.PathLike):
        raise BundleError(
            f"a bundle is a folder, and {path!r} is no path.\n  Pass the folder's path as text or a Path: 'bundle/'."
        )
    return path_of(path)


def why_no_folder(path: Path) -> str | None:
    """Why no folder can be made at `path`, as far as that shows beforehand; None when it can."""
    above = next(parent for parent in Path(os.path.abspath(path)).parents if os.path.lexists(parent))
    if not above.is_dir():
        return f"{above} is no folder"
    return None if os.access(above, os.W_OK | os.X_OK) else f"{above} may not be written to"


def is_empty(folder: Path) -> bool:
    """Whether nothing is seen in a folder; of one that may not be listed, only that it is not known to be empty."""
    try:
        return not any(folder.iterdir())
    except OSError:
        return False


def check_place(target: Path) -> None:
    """Raise BundleError when a bundle cannot be written at `target`: there is something else, or it is out of reach."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise BundleError(f"{target} is no folder, so no bundle can be written there.\n  Give another name.")
    if target.is_dir() and not is_empty(target):
        try:
            read_manifest(_read_small(target / MANIFEST))
        except (BundleError, OSError) as error:
            raise BundleError(
                f"{target} holds something else than a bundle, and is left as it is.\n"
                "  Give another folder, or remove that one."
            ) from error
    reason = why_no_folder(target)
    if reason is not None:
        raise BundleError(f"the bundle cannot be written: {reason}.\n  where: {target}\n  Give another folder.")


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give a new folder beside `target`, which takes its place when the context ends well, and is gone otherwise.

    What a process that was killed left of an earlier one is removed.

    Raises BundleError when `target` holds something else than a bundle, or the files cannot be written.
    """
    target = Path(os.path.abspath(target))
    check_place(target)
    stage: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        stage = Path(tempfile.mkdtemp(prefix=_stage_prefix(target), dir=target.parent))
        with _opened(stage) as handle:
            with suppress(OSError):  # where there are no locks, no other export removes it either
                _lock(handle)
            yield stage
            stage.chmod(0o755)
            _sync(stage)
            _put(stage, target)
    except OSError as error:
        raise _no_room(error, target) from error
    finally:
        if stage is not None:
            _remove(stage)


def _remove(stage: Path) -> None:
    """Remove a folder that is in nobody's way if it stays; the older bundle in it may have been read-only."""
    with suppress(OSError):
        stage.chmod(0o700)
    shutil.rmtree(stage, ignore_errors=True)
    if stage.exists():
        logger.warning("%s could not be removed; it is an older or a broken-off export, and nothing reads it", stage)


def _stage_prefix(target: Path) -> str:
    return f".{target.name}.export-"


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    """Take an open folder's lock, which the system gives back when it is closed or the process ends, however it does.

    Raises OSError when another process has it, or the file system has no locks.
    """
    import fcntl  # not there on Windows, where bundles are read all the same

    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_abandoned(target: Path) -> None:
    """Remove the folders in which exports to `target` were broken off.

    A lock tells, and not a process's number: each container counts its own, and numbers are given again.
    """
    for stage in target.parent.glob(glob.escape(_stage_prefix(target)) + "*"):
        with suppress(OSError), _opened(stage) as handle:  # its export goes on, or has just ended
            if any(stage.iterdir()):  # or it was just made, and is not locked yet
                _lock(handle)
                _remove(stage)


def _sync(stage: Path) -> None:
    """Bring everything to the disk before the folder gets its name."""
    for path in [*stage.iterdir(), stage]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _put(stage: Path, target: Path) -> None:
    """Give the folder its name; an old bundle of that name is exchanged for it in one step where the system can."""
    if not target.exists() or not any(target.iterdir()):
        stage.rename(target)  # an empty folder may be renamed over
    elif not _exchange(stage, target):
        old = target.with_name(f".{target.name}.old.{os.getpid()}")
        target.rename(old)
        stage.rename(target)
        _remove(old)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where that is not known here."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if rename is None:
        return False
    done: int = rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return done == 0


def _no_room(error: OSError, target: Path) -> BundleError:
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    what = "there is no space left" if is_full else str(error.strerror or error)
    return BundleError(
        f"the bundle cannot be written: {what}.\n  where: {target}\n"
        "  Nothing was changed: an older bundle there is as it was."
    )
