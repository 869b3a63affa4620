"""`fouriercache check`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from fouriercache.bundle.folder import read_folder
from fouriercache.bundle.manifest import MANIFEST
from fouriercache.cli.build import Captures
from fouriercache.cli.exits import CHECK_FAILED
from fouriercache.cli.options import Json, examples, refuse_useless
from fouriercache.cli.speak import complain, message_of, say, show_json
from fouriercache.cli.written import method_from_text
from fouriercache.errors import BundleError, GoldenError
from fouriercache.paths import path_of
from fouriercache.testing.golden import Golden, read_golden, read_head
from fouriercache.testing.mismatch import describe, differences
from fouriercache.testing.record import golden_of

EXAMPLES = examples(
    ("optimize dit-xl-2 --golden graphs/dit.txt", "first, write down the graphs of a model"),
    ("check graphs/*.txt", "build each model again, and compare: 0 same, 1 different"),
    ("check graphs/*.txt --update", "accept the new graphs; git diff shows what changed"),
    ("check graphs/dit.txt --json", "the differences for a program to read"),
    ("check bundle/", "compare every file of an exported bundle with its manifest"),
)

_MADE_FROM = ("spec", "method", "steps")
"""Keys of a golden's head that say how its graphs are made."""


def check(
    ctx: typer.Context,
    targets: Annotated[
        list[Path], typer.Argument(parser=path_of, metavar="GOLDEN|BUNDLE...", help="Golden files, folders of bundles.")
    ],
    update: Annotated[bool, typer.Option("--update", help="Write the files anew where the graphs differ.")] = False,
    as_json: Json = False,
) -> None:
    """Build the models of golden files again, and compare their rewritten graphs with the files; or verify a bundle.

    A golden says what it is of: a model that comes with the package, or a function of yours, which is then called. No
    GPU and no weights are needed. Exit code 1 when graphs differ and --update is not given, or a file of a bundle is
    not what its manifest says.
    """
    if all(path.is_dir() for path in targets):
        refuse_useless(ctx, ["update"], "A bundle is never updated: export it again.")
    goldens = [(path, _read(path, update=update)) for path in targets if not path.is_dir()]
    for path, golden in goldens:
        _wanted(path, golden)  # what is wrong with a file shows before any model is built
    results = [_check_bundle(path) for path in targets if path.is_dir()]
    has_failed = not all(result["same"] for result in results)  # an update mends no bundle
    captures = Captures()
    for path, golden in goldens:
        spec, method, steps = _wanted(path, golden)
        now = golden_of(captures.optimize(spec, method, steps), spec)
        found = differences(golden, now)
        results.append({"golden": str(path), "same": not found, "differences": found})
        has_failed |= bool(found) and not update
        if not found:
            say(f"same       {path}")
        elif update:
            others = {key: value for key, value in golden.head.items() if key not in now.head}
            replace(now, head={**now.head, **others}).write(path)
            say(f"updated    {path}")
        elif as_json:
            say(f"different  {path}")
        else:
            say(f"different  {path}")
            complain(describe(golden, now, str(path), f"fouriercache check {path} --update"))
    if as_json:
        show_json(results)
    if has_failed:
        raise typer.Exit(CHECK_FAILED)


def _read(path: Path, *, update: bool) -> Golden:
    """The golden. Of one that cannot be read, an update needs only what says how it is made again."""
    try:
        return read_golden(path)
    except GoldenError as error:
        if (path.parent / MANIFEST).is_file():
            raise GoldenError(
                f"{path} is a file of a bundle, and a bundle is given by its folder.\n"
                f"  Run: fouriercache check {path.parent}"
            ) from error
        if not update:
            raise
    head = read_head(path)
    return Golden({key: head[key] for key in _MADE_FROM if key in head}, {})


def _check_bundle(folder: Path) -> dict[str, Any]:
    try:
        manifest = read_folder(folder)
    except BundleError as error:
        say(f"broken     {folder}")
        complain(message_of(error))
        return {"bundle": str(folder), "same": False, "differences": [message_of(error)]}
    say(f"sound      {folder}: {len(manifest.files)} files of {manifest.method.name}")
    return {"bundle": str(folder), "same": True, "differences": []}


def _wanted(path: Path, golden: Golden) -> tuple[str, Any, int | None]:
    """The model's spec, the method and the number of steps that a golden names."""
    missing = [key for key in _MADE_FROM if key not in golden.head]
    if missing:
        raise GoldenError(
            f"{path} does not say how to build its model: it has no {', '.join(missing)}.\n"
            "  A test made it and can compare it; for this command, write it with `fouriercache optimize --golden`,\n"
            "  or give the test's assertion spec='package.module:function'."
        )
    steps = golden.head["steps"]
    if steps != "any" and not steps.isdecimal():
        raise GoldenError(f"{path} has steps: {steps}\n  It should be a number, or 'any'.")
    return golden.head["spec"], method_from_text(golden.head["method"]), None if steps == "any" else int(steps)
