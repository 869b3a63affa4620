"""What continuous integration runs on more than one set of versions; `make` covers the pinned one."""

from __future__ import annotations

from pathlib import Path

import nox

TORCH = {"oldest": "torch==2.11.0", "newest": "torch"}
"""The range that pyproject.toml promises; constraints.txt pins what lies between."""

nox.options.sessions = ["lint", "types", "tests", "docs"]


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    session.install("--constraint", "constraints.txt", "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types, on the pinned versions."""
    session.install("--constraint", "constraints.txt", "--editable", ".[dev,onnx,rtx]")
    session.run("mypy")


@nox.session
@nox.parametrize("torch", list(TORCH.values()), ids=list(TORCH))
def tests(session: nox.Session, torch: str) -> None:
    """The suite on the oldest and the newest torch, everything else pinned."""
    session.install("--constraint", str(constraints_without_torch(session)), torch, "--editable", ".[dev,onnx,rtx]")
    session.run("pytest", *session.posargs, env={"HF_HUB_OFFLINE": "1"})


@nox.session
def gpu(session: nox.Session) -> None:
    """The tests that need a GPU, on a machine that has one."""
    session.install("--constraint", str(constraints_without_torch(session)), "--editable", ".[dev,gpu,rtx]")
    session.run("pytest", "-m", "gpu or trt", *session.posargs, env={"HF_HUB_OFFLINE": "1"})


@nox.session
def docs(session: nox.Session) -> None:
    """The pages, and the examples in them."""
    session.install("--constraint", "constraints.txt", "--editable", ".[docs]")
    session.run("sphinx-build", "-W", "-b", "html", "docs", "docs/_build/html")
    session.run("sphinx-build", "-W", "-b", "doctest", "docs", "docs/_build/doctest")


def constraints_without_torch(session: nox.Session) -> Path:
    """Write constraints.txt without torch and what torch alone brings, into the session's folder; return the file."""
    pins = Path("constraints.txt").read_text().splitlines()
    free = ("torch==", "setuptools==", "sympy==")  # each torch release asks for its own
    path = Path(session.create_tmp()).resolve() / "constraints.txt"
    path.write_text("\n".join(pin for pin in pins if not pin.startswith(free)))
    return path
