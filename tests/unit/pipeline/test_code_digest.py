"""The code digest: it sees what can change a result and nothing else."""

import pytest

from aggregated_posterior.pipeline.code_digest import _essence, _imports, _tree, code_digest
from aggregated_posterior.storage import DataError


@pytest.fixture
def project(tmp_path):
    package = tmp_path / "aggregated_posterior"
    package.mkdir()
    (package / "__init__.py").write_text('"""Nothing."""\n')
    (package / "direct.py").write_text("from aggregated_posterior.indirect import f\n")
    (package / "indirect.py").write_text('def f():\n    """Say."""\n    return 1\n')
    (package / "inner.py").write_text("X = 1\n")
    (package / "relative.py").write_text("from .inner import X\n")
    (package / "unused.py").write_text("Y = 1\n")
    (tmp_path / "script.py").write_text(
        "import numpy\nfrom aggregated_posterior import direct\n\n"
        "def g():\n    from aggregated_posterior.relative import X\n    return X\n"
    )
    return tmp_path


def digest(project):
    _tree.cache_clear()
    _essence.cache_clear()
    _imports.cache_clear()
    return code_digest(project / "script.py")


@pytest.mark.parametrize("module", ["direct", "indirect", "relative", "inner", "__init__"])
def test_every_imported_module_counts(project, module):
    before = digest(project)
    path = project / "aggregated_posterior" / f"{module}.py"
    path.write_text(path.read_text() + "\nZ = 2\n")
    assert digest(project) != before


def test_the_script_itself_counts(project):
    before = digest(project)
    (project / "script.py").write_text((project / "script.py").read_text().replace("return X", "return -X"))
    assert digest(project) != before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("unused", "Y = 1", "Y = 2"),
        ("indirect", '"""Say."""', '"""Say it in other words."""'),
        ("indirect", "    return 1", "    # A reason.\n    return  1"),
    ],
)
def test_other_modules_comments_docstrings_and_layout_do_not_count(project, module, old, new):
    before = digest(project)
    path = project / "aggregated_posterior" / f"{module}.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert digest(project) == before


def test_versions_of_imported_packages_count(project, monkeypatch):
    from aggregated_posterior.pipeline import code_digest as provenance

    before = digest(project)
    monkeypatch.setattr(provenance, "_version", lambda package: "0" if package == "numpy" else "1")
    changed = digest(project)
    assert changed != before
    monkeypatch.setattr(provenance, "_version", lambda package: "0" if package == "numpy" else "2")
    assert digest(project) == changed, "a package that is not imported must not count"


def test_a_moved_project_has_the_same_digest(project, tmp_path_factory):
    import shutil

    elsewhere = tmp_path_factory.mktemp("other") / "copy"
    shutil.copytree(project, elsewhere)
    assert digest(project) == digest(elsewhere)


@pytest.fixture
def rooms(tmp_path):
    """Nested packages, a lazy door, relative imports one, two and three levels up."""
    files = {
        "house/__init__.py": (
            "from typing import TYPE_CHECKING\nfrom .eager import E\n"
            "if TYPE_CHECKING:\n    from .upper.offered import Offered\n    from .upper.unasked import Unasked\n"
            "def __getattr__(name):\n    from .upper import behind\n    return behind\n"
        ),
        "house/eager.py": "E = 1\n",
        "house/ground/__init__.py": "",
        "house/ground/base.py": "from ..common import C\n",
        "house/ground/cellar/__init__.py": "",
        "house/ground/cellar/deep.py": "from ...common import C\nfrom ..base import C as D\nfrom . import beside\n",
        "house/ground/cellar/beside.py": "B = 1\n",
        "house/common.py": "C = 1\n",
        "house/upper/__init__.py": "",
        "house/upper/offered.py": "from ..ground.cellar import deep\nclass Offered: pass\n",
        "house/upper/unasked.py": "class Unasked: pass\n",
        "house/upper/behind.py": "X = 1\n",
        "script.py": "from house import Offered\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def counts(folder, name):
    before = digest(folder)
    path = folder / name
    text = path.read_text()
    path.write_text(text + "\nZ = 2\n")
    after = digest(folder)
    path.write_text(text)
    return after != before


@pytest.mark.parametrize(
    "name",
    ["__init__", "eager", "upper/__init__", "upper/offered", "ground/__init__", "ground/base", "ground/cellar/__init__",
     "ground/cellar/deep", "ground/cellar/beside", "common"],
)  # fmt: skip
def test_modules_in_nested_packages_count(rooms, name):
    assert counts(rooms, f"house/{name}.py")


@pytest.mark.parametrize("name", ["upper/unasked", "upper/behind"])
def test_what_a_lazy_door_offers_counts_only_for_who_asks(rooms, name):
    assert not counts(rooms, f"house/{name}.py")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("script.py", "from house import Nothing"),
        ("script.py", "from house.upper import absent"),
        ("script.py", "import house.absent"),
        ("house/ground/cellar/deep.py", "from ..absent import C"),
        ("house/upper/offered.py", "from ..ground.cellar import gone"),
    ],
)
def test_a_local_name_that_cannot_be_found_is_an_error(rooms, name, line):
    path = rooms / name
    path.write_text(f"{path.read_text()}\n{line}\n")
    with pytest.raises(DataError, match="imports"):
        digest(rooms)
