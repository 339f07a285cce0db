"""The public names of the packages: there, typed, and light to import."""

import ast
import importlib
import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

PACKAGES = ("hwsim", "quant", "analysis")


def source(package):
    return Path(importlib.import_module(package).__file__)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_says_what_it_is(package):
    module = importlib.import_module(package)
    assert module.__version__ == version("chipfit")
    for name in module.__all__:
        value = getattr(module, name)
        assert name in dir(module)
        if inspect.isclass(value) or inspect.isfunction(value):
            made = f"{name}("  # what a dataclass without a docstring is given
            assert not (value.__doc__ or made).startswith(made), f"{name} has no docstring"
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        _ = module.nonsense


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_know_the_names_that_there_are(package):
    path = source(package)
    assert (path.parent / "py.typed").is_file()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typed = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    } | {node.target.id for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}
    module = importlib.import_module(package)
    assert typed - {"TYPE_CHECKING", "lazy_names"} == set(module.__all__)
    assert len(module.__all__) == len(set(module.__all__))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_is_that_of_a_module(package):
    modules = {path.stem for path in source(package).parent.iterdir()}
    assert not modules & set(importlib.import_module(package).__all__)


def test_importing_the_packages_loads_nothing_heavy():
    heavy = ("torch", "torchvision", "pandas", "matplotlib", "networkx", "numpy")
    code = (
        "import sys, hwsim, quant, analysis; "
        f"print([module for module in {heavy} if module in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
