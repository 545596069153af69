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
from collections.abc import Iterator
from pathlib import Path

from ..storage import DataError

# Names under which packages are imported, where they differ from the names they are installed under.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml"}


def code_digest(script: str | Path) -> str:
    """A SHA-256 over a script, the local modules it imports (directly or not) and the versions of what they import.

    Comments, docstrings and layout do not count: only what can change a result does. Imports inside functions do.

    Args:
        script: The script's path; local modules are looked for beside it, in packages of any depth.

    Raises:
        DataError: A local module or name that is imported cannot be found.
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
    root = script.parent
    modules: set[Path] = set()
    packages: set[str] = set()
    pending = [script]
    while pending:
        path = pending.pop()
        if path in modules:
            continue
        modules.add(path)
        for module, name in _imports(root, path):
            top = module.split(".")[0]
            if _file_of(root, top):
                pending.extend(_local_files(root, path, module, name))
            elif top not in sys.stdlib_module_names:
                packages.add(top)
    return modules, packages


@functools.cache
def _imports(root: Path, path: Path) -> list[tuple[str, str | None]]:
    """What a file imports, as (module, name taken from it), modules by their full names.

    A package's own file runs whenever anything in the package is imported. Of it only what it imports at once counts:
    what a lazy door imports later is followed for those who ask for that name (`_local_files`).
    """
    at_once = path.name == "__init__.py"
    return [found for node in _import_nodes(_tree(path), at_once) for found in _requests(root, path, node)]


def _import_nodes(tree: ast.AST, at_once: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements that run: none under `if TYPE_CHECKING`, and with `at_once` none inside functions."""
    for node in _statements(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for branch in node.orelse:
                yield from _import_nodes(ast.Module([branch], []), at_once)
        elif not (at_once and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
            yield from _import_nodes(node, at_once)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """The statements directly inside a statement; imports are statements, so expressions need no search."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        yield from getattr(node, field, None) if isinstance(getattr(node, field, None), list) else ()


def _requests(root: Path, path: Path, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str | None]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, None) for alias in node.names)
        return
    module = node.module or ""
    if node.level:
        package = path.relative_to(root).parts[:-1]
        around = package[: len(package) - (node.level - 1)]
        module = ".".join([*around, *([module] if module else [])])
    yield from ((module, alias.name) for alias in node.names)


def _file_of(root: Path, module: str) -> Path | None:
    """The file of a local module or package; None where there is none."""
    base = root.joinpath(*module.split("."))
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


def _local_files(root: Path, importer: Path, module: str, name: str | None) -> list[Path]:
    """The files that run when `importer` says `from module import name` (or `import module`), packages included.

    Raises:
        DataError: There is no such module or name: a digest that passed over it would let stale results stand.
    """
    parts = module.split(".")
    chain = [_file_of(root, ".".join(parts[:depth])) for depth in range(1, len(parts) + 1)]
    if None in chain:
        raise DataError(f"{importer}: imports {module}, and there is no such module beside the scripts")
    files = [path for path in chain if path is not None]
    owner = files[-1]
    if name is None or name == "*" or owner.name != "__init__.py":
        return files
    if submodule := _file_of(root, f"{module}.{name}"):
        return [*files, submodule]
    offered = {
        alias.asname or alias.name: (node, alias.name)
        for node in ast.walk(_tree(owner))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    if name in offered:
        node, original = offered[name]
        source = next(found for found, taken in _requests(root, owner, node) if taken == original)
        return [*files, *_local_files(root, owner, source, original)]
    if name not in _bound(_tree(owner)):
        raise DataError(f"{importer}: imports {name} from {module}, where no module and no definition has that name")
    return files


def _bound(tree: ast.Module) -> set[str]:
    """Names that a module's own statements define."""
    names = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    stored = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    return names | {node.id for node in stored}


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
