"""The rules of docs/design.md that a machine can check."""

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

import dgex
import dgex.datasets
import dgex.interpretation
import dgex.io
import dgex.plotting
from dgex._table import ComparisonTable

SOURCE = Path(dgex.__file__).parent
FILES = {path: path.relative_to(SOURCE).with_suffix("").as_posix().replace("/", ".") for path in SOURCE.rglob("*.py")}
FILES = {name.removesuffix(".__init__"): path for path, name in FILES.items() if name != "__init__"}
MODULES = sorted(FILES)

# A module may import those of lower layers only.
LAYERS = {
    "_files": 0,
    "_frames": 0,
    "_progress": 0,
    "_statistics": 0,
    "_table": 0,
    "_validation": 1,
    "_partition": 1,
    "_processes": 1,
    "_base": 2,
    "_genes": 2,
    "_signals": 0,
    "_learned": 3,
    "_network": 2,
    "_mlp": 3,
    "_optimizer": 2,
    "_sharding": 2,
    "datasets._folder": 1,
    "datasets._synthetic": 2,
    "datasets._genes": 2,
    "datasets._download": 2,
    "datasets._fetch": 9,
    "datasets": 10,
    "metrics": 2,
    "preprocessing": 2,
    "_profiles": 3,
    "_programs": 4,
    "_memory": 5,
    "_threads": 0,
    "_near_duplicates": 0,
    "_sorting": 0,
    "_ranks": 1,
    "_gene_distances": 2,
    "_draws": 0,
    "_checksums": 0,
    "_agreement": 6,
    "_prior": 0,
    "_closed_form": 1,
    "_start": 5,
    "_prediction": 5,
    "_constraints": 5,
    "_derivatives": 3,
    "_training": 5,
    "_transfer": 6,
    "_rates": 5,
    "_session": 7,
    "_knn": 6,
    "_normalization": 6,
    "_regressor": 8,
    "recipes": 9,
    "io._ahead": 0,
    "io._metadata": 1,
    "io._source": 2,
    "io._destination": 3,
    "io._text": 3,
    "io._hdf5": 3,
    "io._direct": 0,
    "io._hdf5_writer": 4,
    "io._gct": 4,
    "io._npz": 5,
    "io._identifiers": 3,
    "io._header": 4,
    "io._series_matrix": 4,
    "io._delimited": 5,
    "io._gctx": 5,
    "io._h5ad": 5,
    "io._anndata": 6,
    "io._parquet": 6,
    "io._open": 7,
    "io._create": 7,
    "io": 8,
    "_plan": 9,
    "inference": 10,
    "distributed": 0,
    "plotting._style": 0,
    "plotting._legend": 1,
    "plotting._architecture": 2,
    "plotting._training": 2,
    "plotting._errors": 3,
    "plotting._predictions": 3,
    "plotting._normalization": 7,
    "plotting._activations": 13,
    "plotting._connections": 13,
    "plotting": 14,
    "_commands": 0,
    "_commands._genes": 9,
    "_commands._info": 10,
    "_commands._train": 10,
    "_commands._predict": 11,
    "_commands._compare": 12,
    "__main__": 13,
    "interpretation._networks": 9,
    "interpretation._weights": 10,
    "interpretation._activations": 10,
    "interpretation._attribution": 10,
    "interpretation._reliability": 10,
    "interpretation._gene_sets": 11,
    "interpretation": 12,
    "_encoding": 2,
    "persistence": 9,
}
# JAX and its libraries change often; they stay in these.
ACCELERATED = {
    "_transfer",
    "_mlp",
    "_network",
    "_optimizer",
    "_processes",
    "_sharding",
    "_memory",
    "_profiles",
    "_programs",
    "_prediction",
    "_derivatives",
    "_start",
    "_draws",
    "_training",
    "distributed",
}


def imported(module):
    """Top-level names of everything that a module imports anywhere, with `dgex.x` as "dgex.x"."""
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in names if name.removeprefix("dgex.") in FILES]
            yield from modules or [node.module]


def test_every_module_has_a_layer():
    assert set(LAYERS) == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_lower_layers_only(module):
    used = {name.removeprefix("dgex.") for name in imported(module) if name.startswith("dgex.")}
    assert {name for name in used if LAYERS[name] >= LAYERS[module]} == set()


@pytest.mark.parametrize("module", MODULES)
def test_jax_stays_in_its_modules(module):
    libraries = {name.split(".")[0] for name in imported(module)} & {"jax", "jaxlib", "flax", "optax"}
    assert not libraries or module in ACCELERATED


@pytest.mark.parametrize("module", MODULES)
def test_the_core_imports_core_dependencies_only(module):
    core = {"jax", "flax", "optax", "numpy", "scipy", "sklearn", "dgex"}
    core.add("threadpoolctl")  # scikit-learn's own
    extras = {  # of those who have them
        "_frames": {"pandas"},
        "_table": {"pandas"},
        "io._hdf5": {"h5py"},
        "io._h5ad": {"anndata", "pandas"},
        "io._parquet": {"pyarrow"},
        "datasets._download": {"pooch", "requests", "urllib3"},
        "_plan": {"pandas"},
        "inference": {"anndata", "pandas"},
    }
    extra = {"matplotlib"} if module.startswith("plotting.") else extras.get(module, set())
    libraries = {name.split(".")[0] for name in imported(module)}
    assert libraries <= core | sys.stdlib_module_names | extra


ESTIMATORS = [dgex.DGEXRegressor, dgex.KNNGeneRegressor, dgex.QuantileJointNormalizer]
PUBLIC = [*ESTIMATORS, ComparisonTable]
PUBLIC += [
    item
    for module in map(
        importlib.import_module,
        ("dgex.inference", "dgex.metrics", "dgex.persistence", "dgex.preprocessing", "dgex.recipes"),
    )
    for name, item in vars(module).items()
    if not name.startswith("_") and getattr(item, "__module__", None) == module.__name__ and callable(item)
]
PUBLIC += [getattr(dgex.datasets, name) for name in dgex.datasets.__all__]
PUBLIC += [getattr(dgex.interpretation, name) for name in dgex.interpretation.__all__]
PUBLIC += [getattr(dgex.plotting, name) for name in dgex.plotting.__all__]
PUBLIC += [getattr(dgex.io, name) for name in dgex.io.__all__ if name != "ExpressionFileError"]


def documented(item):
    """Parameter: (type line) of a numpydoc docstring."""
    section = re.split(r"\n\s*Parameters\n\s*-+\n", inspect.getdoc(item) or "", maxsplit=1)
    if len(section) == 1:
        return {}
    body = re.split(r"\n\n[A-Z][\w ]+\n-+\n", section[1])[0]
    entries = re.findall(r"^(\*{0,2}\w+(?:, \*?\w+)*)(?: : (.*))?$", body, flags=re.M)
    return {name.strip("* "): kind for names, kind in entries for name in names.split(",")}


@pytest.mark.parametrize("item", PUBLIC, ids=lambda item: item.__name__)
def test_documented_parameters_and_defaults_are_those_of_the_signature(item):
    parameters = {
        name: parameter for name, parameter in inspect.signature(item).parameters.items() if name not in ("self", "cls")
    }
    documentation = documented(item)
    assert set(documentation) == set(parameters)
    for name, parameter in parameters.items():
        default = re.search(r"default=(.*)$", documentation[name])
        if parameter.default is inspect.Parameter.empty:
            assert default is None, name
        elif "," not in default[1] or default[1].startswith("("):
            assert eval(default[1]) == parameter.default, name


def test_grouped_defaults_are_those_of_the_signature():
    # Entries that document several parameters at once list their defaults in order.
    for item in PUBLIC:
        text = inspect.getdoc(item) or ""
        for names, defaults in re.findall(r"^(\w+(?:, \w+)+) : .*default=([^(\n]+,[^\n]+)$", text, flags=re.M):
            values = [eval(default) for default in defaults.split(",")]
            signature = inspect.signature(item).parameters
            assert [signature[name.strip()].default for name in names.split(",")] == values


@pytest.mark.parametrize("item", PUBLIC, ids=lambda item: item.__name__)
def test_everything_public_is_documented(item):
    doc = inspect.getdoc(item)
    assert doc
    assert doc.splitlines()[0].endswith(".")
    if inspect.isclass(item):
        methods = [m for name, m in vars(item).items() if inspect.isfunction(m) and not name.startswith("_")]
        assert all(inspect.getdoc(method) for method in methods)


@pytest.mark.parametrize("item", ESTIMATORS)
def test_fitted_attributes_are_documented(item, profiles):
    X, y = profiles
    model = item(max_iter=1, hidden_layer_sizes=2) if item is dgex.DGEXRegressor else item()
    model.fit(X, y)
    documented_attributes = re.split(r"\n\s*Attributes\n\s*-+\n", inspect.getdoc(item))[1]
    for name in vars(model):
        if name.endswith("_") and not name.startswith("_"):
            assert re.search(rf"\b{name}\b", documented_attributes), name


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_functions_stay_small(module):
    text = FILES[module].read_text()
    assert len(text.splitlines()) <= 450
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            statements = node.body[1:] if ast.get_docstring(node) else node.body
            if statements:
                assert node.end_lineno - statements[0].lineno + 1 <= 60, node.name
