"""The cache of plans: what is the same is found, what differs is not, and no damage or race gives a wrong plan."""

from __future__ import annotations

import errno
import grp
import hashlib
import os
import pwd
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest

from fouriercache.errors import CacheFolderError
from fouriercache.export.tensorrt import (
    Plan,
    PlanCache,
    build_plan,
    default_folder,
    plan_from_dict,
    target_from_name,
)
from fouriercache.tensorrt_library import Library
from tests.export import models

SM89 = target_from_name("tensorrt:sm89")
LIBRARY = Library("TensorRT-RTX", "1.7.1.116", None)
OPTIONS = {"profiles": [[1, 2, 8]], "level": 3}


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "cache")


def made_up(folder: Path, data: bytes) -> tuple[Plan, Path]:
    """A plan of `data`, as the cache sees one, and its file."""
    path = folder / "made_up.plan"
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    return Plan(
        "tensorrt:sm89", "sm89", "TensorRT-RTX", "1.7.1.116", digest, len(data), ((1, 2, 8),), (), (), 3, 0.5
    ), path


@pytest.mark.trt
def test_a_plan_that_was_built_before_is_not_built_again(tmp_path, cache):
    onnx = models.mlp(tmp_path / "mlp.onnx")
    built = build_plan(onnx, tmp_path / "a.plan", SM89, cache=cache)
    notices: list[str] = []
    found = build_plan(onnx, tmp_path / "b.plan", SM89, cache=cache, notice=lambda doing, share: notices.append(doing))
    assert notices == ["found in the cache"]
    assert found == built
    assert (built.from_cache, found.from_cache) == (False, True)
    assert (tmp_path / "a.plan").read_bytes() == (tmp_path / "b.plan").read_bytes()


@pytest.mark.trt
def test_a_plan_that_cannot_be_kept_is_built_all_the_same(tmp_path, caplog):
    (tmp_path / "taken").write_text("a file where the cache's folder should be")
    plan = build_plan(
        models.mlp(tmp_path / "mlp.onnx"), tmp_path / "mlp.plan", SM89, cache=PlanCache(tmp_path / "taken")
    )
    assert (tmp_path / "mlp.plan").stat().st_size == plan.bytes
    assert f"could not be kept in {tmp_path}/taken" in caplog.text


@pytest.mark.ort
def test_whatever_changes_the_plan_changes_its_key(tmp_path, cache):
    onnx = models.mlp(tmp_path / "mlp.onnx")
    keys = [
        cache.key(onnx, LIBRARY, "SM89", OPTIONS),
        cache.key(onnx, LIBRARY, "SM86", OPTIONS),
        cache.key(onnx, Library("TensorRT-RTX", "1.7.2", None), "SM89", OPTIONS),
        cache.key(onnx, Library("TensorRT", "1.7.1.116", None), "SM89", OPTIONS),
        cache.key(onnx, LIBRARY, "SM89", {**OPTIONS, "level": 2}),
        cache.key(onnx, LIBRARY, "SM89", {**OPTIONS, "profiles": [[1, 2, 4]]}),
        cache.key(models.mlp(tmp_path / "mlp.onnx", seed=5), LIBRARY, "SM89", OPTIONS),  # its weights alone
        cache.key(models.branch(tmp_path / "branch.onnx"), LIBRARY, "SM89", OPTIONS),
    ]
    assert len(set(keys)) == len(keys)
    assert cache.key(models.mlp(tmp_path / "mlp.onnx"), LIBRARY, "SM89", OPTIONS) == keys[0]


@pytest.mark.ort
def test_bytes_of_a_shared_weight_file_that_a_model_does_not_read_do_not_count(tmp_path, cache):
    onnx = models.mlp(tmp_path / "mlp.onnx")
    key = cache.key(onnx, LIBRARY, "SM89", OPTIONS)
    with (tmp_path / "mlp.onnx.data").open("ab") as file:
        file.write(b"weights of another mode")
    assert cache.key(onnx, LIBRARY, "SM89", OPTIONS) == key


def test_a_plan_comes_back_as_it_was_kept(tmp_path, cache):
    plan, path = made_up(tmp_path, b"a plan")
    assert cache.fetch("key", tmp_path / "copy.plan") is None
    cache.keep("key", plan, path)
    assert cache.fetch("key", tmp_path / "copy.plan") == plan
    assert (tmp_path / "copy.plan").read_bytes() == b"a plan"
    assert plan_from_dict(plan.as_dict()) == plan


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path, cache, mode):
    plan, path = made_up(tmp_path, b"a plan")
    cache.keep("key", plan, path)
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    cache.folder.chmod(mode)
    with pytest.raises(
        CacheFolderError, match=r"(?s)can be written to by others \(mode 7.*plans, which are run: chmod 700"
    ):
        cache.fetch("key", tmp_path / "copy.plan")
    with pytest.raises(CacheFolderError, match="can be written to by others"):
        cache.keep("other", plan, path)
    assert not (tmp_path / "copy.plan").exists()
    cache.folder.chmod(0o755)  # others may look
    assert cache.fetch("key", tmp_path / "copy.plan") == plan


def test_a_folder_of_another_user_is_refused(tmp_path, cache, monkeypatch):
    plan, path = made_up(tmp_path, b"a plan")
    cache.keep("key", plan, path)
    for ask in ("getuid", "geteuid"):
        monkeypatch.setattr(os, ask, lambda: 12345)
    with pytest.raises(CacheFolderError, match=r"(?s)belongs to another user .*FOURIERCACHE_PLANS"):
        cache.fetch("key", tmp_path / "copy.plan")


def test_folders_above_that_are_missing_are_made_for_this_user_alone(tmp_path):
    plan, path = made_up(tmp_path, b"a plan")
    before = os.umask(0)
    try:
        PlanCache(tmp_path / "caches" / "fouriercache" / "plans").keep("key", plan, path)
    finally:
        os.umask(before)
    made = ["caches", "caches/fouriercache", "caches/fouriercache/plans"]
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in made] == [0o700] * 3


@pytest.mark.parametrize("where", ["shared/plans", "shared/deep/plans", "link"])
def test_a_folder_that_others_can_replace_is_refused_before_a_plan_is_built(tmp_path, where):
    plan, path = made_up(tmp_path, b"a plan")
    shared = tmp_path / "shared"
    shared.mkdir()
    (tmp_path / "link").symlink_to(shared / "plans")
    cache = PlanCache(tmp_path / where)
    for mode in (0o777, 0o707):
        shared.chmod(mode)
        with pytest.raises(CacheFolderError, match=rf"(?s)is in {shared}, which others can write to \(mode {mode:o}"):
            cache.fetch("key", tmp_path / "copy.plan")
    shared.chmod(0o1777)
    (shared / "plans").mkdir(mode=0o700)
    cache.keep("key", plan, path)
    assert cache.fetch("key", tmp_path / "copy.plan") == plan
    shared.chmod(0o777)
    with pytest.raises(CacheFolderError, match="FOURIERCACHE_PLANS, or chmod go-w"):
        cache.keep("other", plan, path)


@pytest.mark.parametrize(
    ("name", "members", "is_private"),
    [("me", [], True), ("me", ["me"], True), ("me", ["me", "another"], False), ("staff", [], False)],
)
def test_a_group_that_is_this_users_alone_is_nobody_else(tmp_path, cache, monkeypatch, name, members, is_private):
    tmp_path.chmod(0o770)
    gid = tmp_path.stat().st_gid
    user = pwd.struct_passwd(("me", "x", os.geteuid(), gid, "", "/home/me", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: user)
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group((name, "x", gid, members)))
    with nullcontext() if is_private else pytest.raises(CacheFolderError, match="mode 770"):
        assert cache.fetch("key", tmp_path / "copy.plan") is None


def test_a_folder_that_cannot_be_looked_at_is_refused(tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(CacheFolderError, match=f"whose the cache folder {tmp_path}/loop is: "):
        PlanCache(tmp_path / "loop").fetch("key", tmp_path / "copy.plan")
    seen, closed = Path.stat, tmp_path / "closed" / "plans"

    def stat(path: Path, **options: bool) -> os.stat_result:
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return seen(path, **options)

    monkeypatch.setattr(Path, "stat", stat)  # tests may run as root, to whom nothing is closed
    with pytest.raises(CacheFolderError, match=f"whose the cache folder {closed} is: Permission denied"):
        PlanCache(closed).fetch("key", tmp_path / "copy.plan")


@pytest.mark.trt
def test_no_plan_is_built_where_the_folder_of_plans_is_refused(tmp_path, cache):
    cache.folder.mkdir(mode=0o777)
    cache.folder.chmod(0o777)
    with pytest.raises(CacheFolderError):
        build_plan(models.mlp(tmp_path / "mlp.onnx"), tmp_path / "mlp.plan", SM89, cache=cache)
    assert not (tmp_path / "mlp.plan").exists()


@pytest.mark.parametrize("name", ["plan", "facts.json"])
@pytest.mark.parametrize("damage", [b"", b"{", b'{"target": "tensorrt:sm89"}', b"another plan"])
def test_a_damaged_entry_is_not_taken(tmp_path, cache, name, damage):
    plan, path = made_up(tmp_path, b"a plan")
    cache.keep("key", plan, path)
    (cache.folder / "key" / name).write_bytes(damage)
    assert cache.fetch("key", tmp_path / "copy.plan") is None
    assert not (tmp_path / "copy.plan").exists()


def test_an_entry_that_was_damaged_can_be_kept_anew(tmp_path, cache):
    plan, path = made_up(tmp_path, b"a plan")
    for name in ("plan", "facts.json"):
        cache.keep("key", plan, path)
        (cache.folder / "key" / name).write_bytes(b"damage")
        assert cache.fetch("key", tmp_path / "copy.plan") is None
        cache.keep("key", plan, path)
        assert cache.fetch("key", tmp_path / "copy.plan") == plan


def test_the_plan_that_was_not_used_for_longest_goes_first(tmp_path, cache):
    cache.limit = 25
    for number in range(3):
        plan, path = made_up(tmp_path, b"0123456789")
        cache.keep(f"key{number}", plan, path)
        os.utime(cache.folder / f"key{number}", (1000 + number, 1000 + number))
        if number == 1:
            assert cache.fetch("key0", tmp_path / "copy.plan") is not None  # so key1 is the oldest now
    assert {entry.key for entry in cache.entries()} == {"key0", "key2"}
    cache.clear()
    assert cache.entries() == []


def test_a_plan_larger_than_the_limit_is_still_kept_until_the_next(tmp_path, cache):
    cache.limit = 1
    plan, path = made_up(tmp_path, b"0123456789")
    cache.keep("key", plan, path)
    assert [entry.key for entry in cache.entries()] == ["key"]


def test_many_that_keep_and_fetch_one_plan_at_a_time_all_get_it_whole(tmp_path, cache):
    plan, path = made_up(tmp_path, b"a plan" * 5000)
    wrong: list[object] = []

    def work(number: int) -> None:
        copy = tmp_path / f"copy{number}.plan"
        for _ in range(20):
            cache.keep("key", plan, path)
            if cache.fetch("key", copy) != plan or copy.read_bytes() != path.read_bytes():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sorted(path.name for path in cache.folder.iterdir()) == ["key"]


def test_the_folder_of_plans_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("FOURIERCACHE_PLANS", raising=False)
    assert default_folder() == tmp_path / "fouriercache" / "plans"
    monkeypatch.setenv("FOURIERCACHE_PLANS", str(tmp_path / "elsewhere"))
    assert PlanCache().folder == tmp_path / "elsewhere"
