"""What a result was made from: a digest of the code and the package versions behind a script.

Snakemake keys a cached result by the script's own text, not by the modules that the script imports nor by the packages
installed. `code_digest` closes both gaps: its value goes into the rule's params.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import sys
from pathlib import Path

PACKAGE = "aggregated_posterior"
# Names under which packages are imported, where they differ from the names they are installed under.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml"}


def code_digest(script: str | Path) -> str:
    """A SHA-256 over a script, the local modules it imports (directly or not) and the versions of what they import.

    Comments, docstrings and layout do not count: only what can change a result does. Imports inside functions do.

    Args:
        script: The script's path; local modules are looked for in the package beside it.
    """
    script = Path(script)
    modules, packages = _closure(script)
    digest = hashlib.sha256()
    for path in sorted(modules, key=lambda module: module.relative_to(script.parent).as_posix()):
        digest.update(f"{path.relative_to(script.parent).as_posix()}\0{_essence(path)}\0".encode())
    digest.update(f"python {sys.version_info.major}.{sys.version_info.minor}\0".encode())
    for package in sorted(packages):
        digest.update(f"{package} {_version(package)}\0".encode())
    return digest.hexdigest()


def _closure(script: Path) -> tuple[set[Path], set[str]]:
    """The local files that `script` executes, itself included, and the installed packages they import."""
    modules: set[Path] = set()
    packages: set[str] = set()
    pending = [script]
    while pending:
        path = pending.pop()
        if path in modules:
            continue
        modules.add(path)
        for name in _imports(path):
            local = _locate(script.parent, name)
            if local:
                pending.extend(local)
            elif name.split(".")[0] not in sys.stdlib_module_names | {PACKAGE}:
                packages.add(name.split(".")[0])
    return modules, packages


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                module = f"{PACKAGE}.{module}".rstrip(".")
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def _locate(root: Path, name: str) -> list[Path]:
    """The files that `import name` executes if `name` is a local module: itself and the packages around it."""
    base = root.joinpath(*name.split("."))
    found = [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()]
    if not found:
        return []
    parents = [root.joinpath(*name.split(".")[:depth], "__init__.py") for depth in range(1, name.count(".") + 1)]
    return found + [path for path in parents if path.is_file()]


@functools.cache
def _tree(path: Path) -> ast.Module:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body[0] = ast.Pass()
    return tree


@functools.cache
def _essence(path: Path) -> str:
    return ast.dump(_tree(path))


@functools.cache
def _version(package: str) -> str:
    distribution = DISTRIBUTIONS.get(package, package)
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        # An optional package that is absent here: installing it later is a change too.
        return "absent"
