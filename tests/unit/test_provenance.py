"""The code digest: it sees what can change a result and nothing else."""

import pytest

from aggregated_posterior.provenance import _essence, _tree, code_digest


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
    from aggregated_posterior import provenance

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
