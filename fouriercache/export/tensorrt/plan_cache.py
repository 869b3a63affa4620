"""Plans built earlier, by everything that matters: a build takes minutes, and the next export often needs the same.

One folder for each plan, with the plan and what is known of it; it is made under another name and renamed, so that two
processes that build the same plan do not meet. A plan is taken only if its hash is still the one it was kept with, and
from a folder that nobody else can write to or replace: a plan is code, and its hash lies beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fouriercache.export.tensorrt.onnx_digest import onnx_digest
from fouriercache.export.tensorrt.plan import Plan, plan_from_dict
from fouriercache.paths import check_private, make_private, path_of
from fouriercache.strict_files import parse_json
from fouriercache.tensorrt_library import Library

_FORM = 1
"""Part of every key; grows when plans are built in another way."""
_PLAN, _FACTS = "plan", "facts.json"


@dataclass(frozen=True)
class Entry:
    """One plan of a cache: its key, what is known of it, its folder, and when it was last used (seconds, Unix time)."""

    key: str
    plan: Plan
    folder: Path
    used: float


def default_folder() -> Path:
    """`$FOURIERCACHE_PLANS`, or `fouriercache/plans` in the user's cache folder."""
    given = os.environ.get("FOURIERCACHE_PLANS")
    if given:
        return path_of(given)
    caches = os.environ.get("XDG_CACHE_HOME")
    return (path_of(caches) if caches else Path.home() / ".cache") / "fouriercache" / "plans"


class PlanCache:
    """Plans in a folder, safe for several processes at a time.

    Args:
        folder: made when the first plan is kept.
        limit: bytes; when there are more, plans that were not used for the longest time go.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, limit: int = 20 * 2**30) -> None:
        self.folder = default_folder() if folder is None else path_of(folder)
        self.limit = limit

    def key(self, onnx: Path, library: Library, device: str, options: Mapping[str, Any]) -> str:
        """Return what names a plan: a hash of the model with its weights, of library, device and options.

        Raises LoweringError when the model or its weights cannot be read.
        """
        parts = {
            "form": _FORM,
            "model": onnx_digest(onnx),
            "library": [library.flavour, library.version],
            "device": device,
            "options": options,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def fetch(self, key: str, destination: Path) -> Plan | None:
        """Copy the plan of a key to `destination` and say what is known of it; None if there is none that is whole.

        Raises CacheFolderError when another user owns the folder, can write to it or replace it, or when that cannot be
        seen; OSError when `destination` cannot be written.
        """
        self._check_private()
        entry = self._entry(self.folder / key)
        if entry is None:
            shutil.rmtree(self.folder / key, ignore_errors=True)  # folders come whole, so this one was damaged
            return None
        with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as folder:
            copy = Path(folder) / "plan"
            try:
                source = (entry.folder / _PLAN).open("rb")
            except OSError:
                return None  # another process has just dropped it
            with source, copy.open("wb") as file:
                shutil.copyfileobj(source, file, 2**20)
            with copy.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != entry.plan.sha256:
                    shutil.rmtree(entry.folder, ignore_errors=True)
                    return None
            copy.replace(destination)
        _touch(entry.folder)
        return entry.plan

    def keep(self, key: str, plan: Plan, path: Path) -> None:
        """Keep a copy of the plan at `path`. A plan of this key that is there already stays.

        Raises CacheFolderError as `fetch` does, OSError when the plan cannot be written; nothing half-written stays.
        """
        make_private(self.folder)
        self._check_private()
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".new.") as folder:
            fresh = Path(folder) / "entry"
            fresh.mkdir()
            shutil.copyfile(path, fresh / _PLAN)
            (fresh / _FACTS).write_text(json.dumps(plan.as_dict(), sort_keys=True))
            try:
                fresh.rename(self.folder / key)
            except OSError:
                if not (self.folder / key).is_dir():
                    raise
        self._drop_beyond(self.limit, but=key)

    def entries(self) -> list[Entry]:
        """Every plan that is there, the one used last in front."""
        if not self.folder.is_dir():
            return []
        found = [self._entry(path) for path in self.folder.iterdir() if not path.name.startswith(".")]
        return sorted((entry for entry in found if entry is not None), key=lambda entry: -entry.used)

    def clear(self) -> None:
        """Drop every plan."""
        self._drop_beyond(0)

    def _check_private(self) -> None:
        check_private(self.folder, "plans, which are run", "name a folder of yours in FOURIERCACHE_PLANS")

    def _drop_beyond(self, limit: int, but: str = "") -> None:
        held = 0
        for entry in self.entries():
            held += entry.plan.bytes
            if held > limit and entry.key != but:
                shutil.rmtree(entry.folder, ignore_errors=True)

    def _entry(self, folder: Path) -> Entry | None:
        try:
            facts = parse_json((folder / _FACTS).read_text())
            used = folder.stat().st_mtime
            return Entry(folder.name, plan_from_dict(facts, from_cache=True), folder, used)
        except (OSError, ValueError, TypeError, KeyError):
            return None  # not there, being dropped, or not ours: then the plan is built anew


def _touch(folder: Path) -> None:
    try:
        os.utime(folder)
    except OSError:
        return  # dropped by another process; the copy is ours already
