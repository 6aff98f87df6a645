"""The files, functions and commands that the README and CONTRIBUTING.md name exist."""

import importlib.util
import re
from pathlib import Path

import pytest

import jarai_async

ROOT = Path(__file__).parents[2]
README, CONTRIBUTING = ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md"
TEXTS = [
    pytest.param(path, path.read_text(encoding="utf-8"), id=path.stem) for path in (README, CONTRIBUTING)
]


@pytest.mark.parametrize(("document", "text"), TEXTS)
def test_links_lead_to_files(document: Path, text: str) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)\)", text)
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize(("document", "text"), TEXTS)
def test_named_files_exist(document: Path, text: str) -> None:
    paths = re.findall(r"`((?:jarai_async|tests|benchmarks)/[\w/.]+)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == [], document


@pytest.mark.parametrize(("document", "text"), TEXTS)
def test_named_commands_exist(document: Path, text: str) -> None:
    modules = re.findall(r"python -m ([\w.]+)", text)
    assert [module for module in modules if importlib.util.find_spec(module) is None] == [], document


def test_recipes_name_what_is_in_the_files() -> None:
    """Every "`name` in `path`" is true."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    named = re.findall(r"`(\w+)`\s+in\s+`([\w/.]+\.py)`", text)
    assert len(named) > 10
    missing = [
        (name, path)
        for name, path in named
        if not re.search(rf"\b{name}\b", (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert missing == []


def test_map_names_every_folder_and_root_module() -> None:
    package = Path(jarai_async.__file__).parent
    units = [path for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    named = re.findall(r"^  (\w+)/? ", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(path.stem for path in units) == sorted({*named} & {path.stem for path in units})
