"""Discs that are small, and folders that cannot be written to, for as long as a block lasts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = 4096


def pages(folder: Path) -> int:
    """Bytes that a folder's files take on a disc that hands out whole pages, folders included."""
    files = [path.stat().st_size if path.is_file() else 1 for path in folder.rglob("*")]
    return sum(-(-size // PAGE) * PAGE for size in files)


def mount(*arguments: str) -> None:
    """Mount, or skip the test where this user or this machine may not."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount here (root can): {done.stderr.strip()}")


@contextmanager
def small_disc(folder: Path, size: int) -> Iterator[Callable[[int], None]]:
    """Mount a disc of `size` bytes at `folder`; yields a function that gives it another size."""
    folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield lambda size: mount("-o", f"remount,size={size}", str(folder))
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Refuse all writes to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid():
        mode = folder.stat().st_mode
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(mode)
        return
    # Permissions do not stop root; a read-only mount does.
    mount("--bind", str(folder), str(folder))
    try:
        mount("-o", "remount,ro,bind", str(folder))
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
