"""The documentation names every setting, with its default, and files that exist."""

import dataclasses
import functools
import re
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

import dlrm
from dlrm.config.compose import compose
from dlrm.config.data import (
    CriteoSource,
    DataConfig,
    FasttextSource,
    MovielensSource,
    SourceFormat,
    SyntheticSource,
    TableSource,
)
from dlrm.config.embedding_init import EmbeddingInit
from dlrm.config.features import DenseFeature, SparseFeature
from dlrm.config.hardware import HardwareConfig
from dlrm.config.keys import all_keys, type_at, without_none
from dlrm.config.root import Config
from dlrm.config.table_options import TableOptions
from dlrm.config.text import TextOptions
from dlrm.config.workload import WorkloadConfig
from dlrm.models import model_config

ROOT = Path(dlrm.__file__).parent.parent
SETTINGS = ROOT / "docs" / "configuration.md"
MODELS_PAGE = ROOT / "docs" / "models.md"
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if page.is_file()
]
MODELS = tuple(sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")))
OWN_DEFAULTS = {"fasttext": ("embedding_dim", "embedding_init")}
"""Settings whose default in one model is that of its paper."""
REQUIRED = ("data.name", "data.format")

ROW = re.compile(r"^\| `([a-z_0-9.<>]+)` \| ([^|]*) \| [^|]+ \|$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FOLDERS = ("dlrm/", "docs/", "tests/", "data/", "docker/", "requirements/")
"""Not conf/: in the documentation that is mostly the user's own."""


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def documented_settings() -> dict[str, str]:
    """Return key and default, as written, of every row below "All keys"."""
    tables = read(SETTINGS).partition("\n## All keys\n")[2].partition("\n## ")[0]
    rows: list[tuple[str, str]] = ROW.findall(tables)
    keys = [key for key, _ in rows]
    assert len(keys) == len(set(keys)), "a key stands there twice"
    return dict(rows)


@functools.cache
def composed() -> Config:
    return compose([])


@functools.cache
def model_sections() -> list[Any]:
    return [model_config(compose([f"model={name}"]).model) for name in MODELS]


def existing_settings() -> set[str]:
    keys = {key for key in all_keys(Config) if not is_section(Config, key)}
    keys.remove("model.<name>")
    for section in model_sections():
        own = all_keys(type(section))
        keys |= {f"model.{key}" for key in own if not is_section(type(section), key)}
    return keys


def is_section(root: type, key: str) -> bool:
    """Say whether a key holds others, which stand in the tables in its place."""
    return dataclasses.is_dataclass(without_none(type_at(root, key)))


def default_of(key: str) -> Any:
    """Return what ``dlrm train`` uses; for ``data``, what its classes have."""
    roots: dict[str, Any] = {
        "data.synthetic.": SyntheticSource(),
        "data.movielens.": MovielensSource(),
        "data.criteo.": CriteoSource(),
        "data.table.": TableSource(),
        "data.fasttext.": FasttextSource(),
        "data.dense_features.<name>.": DenseFeature(),
        "data.sparse_features.<name>.text.": TextOptions(),
        "data.sparse_features.<name>.": SparseFeature(),
        "tables.<name>.init.": EmbeddingInit(),
        "tables.<name>.": TableOptions(),
        "data.": DataConfig(name="any", format=SourceFormat.table),
        "hardware.": HardwareConfig(),
        "workload.": WorkloadConfig(name="any", table_rows=[1], bag_lengths=[1]),
        "": composed(),
    }
    if key.startswith("model."):
        key, own = key.removeprefix("model."), composed().model["name"]
        sections = sorted(model_sections(), key=lambda section: section.name != own)
        found = next(s for s in sections if hasattr(s, key.partition(".")[0]))
    else:
        prefix = next(prefix for prefix in roots if key.startswith(prefix))
        key, found = key.removeprefix(prefix), roots[prefix]
    for part in key.split("."):
        found = getattr(found, part)
    return found.name if isinstance(found, Enum) else found


def value_of(text: str) -> Any:
    value = yaml.safe_load(text.strip("`"))
    # YAML 1.1 takes 1e-8, without a dot, for text.
    return float(value) if re.fullmatch(r"\de-\d+", str(value)) else value


def anchors(page: Path) -> set[str]:
    """Return the names under which a page's headings can be linked to."""
    kept = (
        re.sub(r"[^\w\- ]", "", text.lower()) for text in HEADING.findall(read(page))
    )
    return {text.replace(" ", "-") for text in kept}


def named_paths(page: Path) -> list[str]:
    """Return the code spans that are paths of this repository."""
    spans = [span for span in CODE.findall(read(page)) if span.startswith(FOLDERS)]
    return [span for span in spans if not re.search(r"[\s<>*=]", span)]


def test_every_setting_is_documented_and_every_documented_one_exists():
    documented, existing = set(documented_settings()), existing_settings()
    assert sorted(existing - documented) == []
    assert sorted(documented - existing) == []


def test_documented_defaults_are_those_in_use():
    wrong = {}
    for key, text in documented_settings().items():
        named = key.endswith(".<name>")
        if named or text == "required":
            assert text == ("none" if named else "required"), key
            assert named or key in REQUIRED or key.startswith("workload."), key
        elif value_of(text) != default_of(key):
            wrong[key] = (text, default_of(key))
    assert wrong == {}


def test_a_setting_has_one_default_in_all_models_that_have_it():
    defaults: dict[str, set[str]] = {}
    for section in model_sections():
        for field in dataclasses.fields(section):
            own = OWN_DEFAULTS.get(section.name, ())
            if field.name not in ("name", *own):
                shown = repr(getattr(section, field.name))
                defaults.setdefault(field.name, set()).add(shown)
    assert {key: found for key, found in defaults.items() if len(found) > 1} == {}


def test_every_model_stands_in_the_table_of_models():
    rows = re.findall(r"^\| `([a-z_0-9]+)` \|", read(MODELS_PAGE), re.MULTILINE)
    assert sorted(rows) == list(MODELS)


def test_every_name_that_a_setting_takes_is_documented():
    text = read(SETTINGS)
    for key in sorted(existing_settings()):
        if key.startswith("model.") or key == "optimizer.sparse.name":
            continue
        kind = without_none(type_at(Config, key))
        if isinstance(kind, type) and issubclass(kind, Enum):
            row = next(line for line in text.splitlines() if f"| `{key}` |" in line)
            missing = [name.name for name in kind if f"`{name.name}`" not in row]
            assert missing == [], key


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page):
    broken = []
    for target in LINK.findall(read(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / unquote(name) if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page):
    missing = [path for path in named_paths(page) if not (ROOT / path).exists()]
    assert missing == []
