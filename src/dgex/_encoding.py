"""What an estimator knows as JSON and arrays, and back.

Encoding is a walk over the attributes of an estimator, whichever they are; decoding creates nothing but data,
estimators of dgex and scikit-learn, and the records that dgex keeps in its own. `docs/saving.md` describes the JSON.
"""

from __future__ import annotations

import base64
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from sklearn.base import BaseEstimator

from dgex import __version__
from dgex._validation import listed

CONTENTS = "model.json"

# Kinds of types (numpy.dtype.kind) that arrays and numbers of NumPy are stored in.
ARRAY_KINDS = "biufcSUmM"
SCALAR_KINDS = "biufU"

# Where scikit-learn keeps what an estimator asks a Pipeline or a search to pass on, such as `set_fit_request` says.
REQUESTS = "_metadata_request"

# Values that nobody can tell from their copies.
IMMUTABLE = (tuple, np.generic, np.dtype, bytes, slice)


class ModelFileError(ValueError):
    """A model file is damaged, names what a model is not made of, or was written by a version too far away."""


def versions() -> dict[str, str]:
    return {
        "dgex": __version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "jax": version("jax"),  # without importing it
    }


ADVICE = (
    "A model file can only hold numbers, text, arrays, and estimators of dgex and scikit-learn that are made of them. "
    "Take it out; or use joblib, whose files can run anything when they are loaded, so load only those you trust."
)


class Encoder:
    """Turns a value into JSON, and collects the arrays that it refers to."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        # By id, every mutable value so far (while it is held here, no other can have its id) and its JSON.
        self._known: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._n_shared = 0

    def encode(self, value: Any, where: str) -> Any:
        """The JSON of a value; an object that was encoded before is referred to."""
        kind = type(value)
        if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
            return value
        if isinstance(value, IMMUTABLE):
            return self._node(value, where)
        if id(value) not in self._known:
            node: dict[str, Any] = {}
            self._known[id(value)] = value, node
            node.update(self._node(value, where))
            return node
        node = self._known[id(value)][1]
        if not node:
            raise TypeError(f"Got a model whose {where} contains itself. {ADVICE}")
        if "id" not in node:
            self._n_shared += 1
            node["id"] = self._n_shared
        return {"same as": node["id"]}

    def _node(self, value: Any, where: str) -> dict[str, Any]:
        kind = type(value)
        if kind is float:
            return {"float": repr(value)}  # JSON has no word for these
        if kind in (list, tuple):
            return {kind.__name__: self._all(value, where)}
        if kind is dict:
            pairs = [(key, item, f"{where}[{key!r}]") for key, item in value.items()]
            return {"dict": [[self.encode(key, place), self.encode(item, place)] for key, item, place in pairs]}
        if kind is bytes:
            return {"bytes": base64.b64encode(value).decode()}
        if kind is slice:
            return {"slice": self._all((value.start, value.stop, value.step), where)}
        if kind is np.random.RandomState and value.get_state(legacy=False)["bit_generator"] == "MT19937":
            return {"random state": self.encode(value.get_state(legacy=False), where)}
        if kind in (np.ndarray, np.memmap) and value.dtype.kind == "O":
            return {"objects": self._all(value.flat, where), "shape": value.shape}
        if kind in (np.ndarray, np.memmap) and is_plain(value.dtype, ARRAY_KINDS):
            return {"array": self._member(value, where), "type": value.dtype.str, "shape": value.shape}
        if isinstance(value, np.generic) and is_plain(value.dtype, SCALAR_KINDS):
            return {"scalar": self.encode(value.item(), where), "type": value.dtype.str}
        if isinstance(value, np.dtype) and (value.kind == "O" or is_plain(value, ARRAY_KINDS)):
            return {"dtype": value.str}
        if kind is type and issubclass(value, np.generic) and is_plain(np.dtype(value), ARRAY_KINDS):
            return {"scalar type": np.dtype(value).str}
        return self._instance(value, where)

    def _all(self, values: Iterable[Any], where: str) -> list[Any]:
        return [self.encode(value, f"{where}[{index}]") for index, value in enumerate(values)]

    def _member(self, array: np.ndarray, where: str) -> str:
        """Note an array to be stored under a name that tells where it belongs."""
        name = re.sub(r"\W+", "/", where, flags=re.ASCII).strip("/")
        while f"{name}.npy" in self.arrays:
            name += "_"
        # Products round differently with the order of the elements in memory.
        strides = [abs(stride) for stride in array.strides]
        if not array.flags.contiguous and strides == sorted(strides):
            array = np.asfortranarray(array)
        self.arrays[f"{name}.npy"] = array
        return f"{name}.npy"

    def _instance(self, value: Any, where: str) -> dict[str, Any]:
        kind = type(value)
        name = class_name(kind)
        if name is None:
            what = f"{getattr(value, '__name__', 'an object')} of the type" if where else "a model of the type"
            place = f" as {where} of the model" if where else ""
            raise TypeError(f"Got {what} {kind.__module__}.{kind.__qualname__}{place}. {ADVICE}")
        if not isinstance(value, BaseEstimator):
            fields = {field: getattr(value, field) for field in constructor_defaults(kind)}
            return {"class": name, "fields": self._named(fields, where)}
        state = vars(value)
        parameters = {parameter: state[parameter] for parameter in constructor_defaults(kind) if parameter in state}
        others = [attribute for attribute in state if attribute not in parameters and attribute != REQUESTS]
        others.sort(key=lambda attribute: attribute.startswith("_"))  # a shared array is named for the public one
        node = {
            "class": name,
            "parameters": self._named(parameters, where),
            "attributes": self._named({attribute: state[attribute] for attribute in others}, where),
        }
        if REQUESTS in state:
            methods = vars(state[REQUESTS]).items()
            asked = {method: request.requests for method, request in methods if getattr(request, "requests", None)}
            node["requests"] = self._named(asked, where)
        return node

    def _named(self, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        return {name: self.encode(value, f"{where}.{name}".lstrip(".")) for name, value in values.items()}


class Decoder:
    """Turns JSON and arrays back into values."""

    def __init__(self, path: Path, read_array: Callable[..., np.ndarray], written_by: Mapping[str, str]):
        self.uses_sklearn = False
        self._path = path
        self._written_by = written_by
        self._shared: dict[int, Any] = {}
        self._kinds: dict[str, Callable[[dict[str, Any]], Any]] = {
            "float": lambda node: float(node["float"]),
            "list": lambda node: self._all(node["list"]),
            "tuple": lambda node: tuple(self._all(node["tuple"])),
            "dict": lambda node: {self.decode(key): self.decode(value) for key, value in node["dict"]},
            "bytes": lambda node: base64.b64decode(node["bytes"], validate=True),
            "slice": lambda node: slice(*self._all(node["slice"])),
            "random state": self._random_state,
            "objects": self._objects,
            "array": lambda node: read_array(node["array"], node["type"], node["shape"]),
            "scalar": lambda node: dtype_of(node["type"], SCALAR_KINDS).type(self.decode(node["scalar"])),
            "dtype": lambda node: dtype_of(node["dtype"], f"{ARRAY_KINDS}O"),
            "scalar type": lambda node: dtype_of(node["scalar type"], ARRAY_KINDS).type,
            "class": self._instance,
            "same as": lambda node: self._shared[node["same as"]],
        }

    def decode(self, node: Any) -> Any:
        """The value that a piece of JSON stands for."""
        if not isinstance(node, dict):
            if isinstance(node, list):
                raise ValueError("a list stands where a value is expected")
            return node
        kinds = node.keys() & self._kinds.keys()
        if len(kinds) != 1:
            raise ValueError(f"a value of unknown kind has the entries {listed(node)}")
        value = self._kinds[kinds.pop()](node)
        if "id" in node:
            self._shared[node["id"]] = value
        return value

    def _all(self, nodes: list[Any]) -> list[Any]:
        return [self.decode(node) for node in nodes]

    def _named(self, nodes: dict[str, Any]) -> dict[str, Any]:
        return {name: self.decode(node) for name, node in nodes.items()}

    def _random_state(self, node: dict[str, Any]) -> np.random.RandomState:
        state = self.decode(node["random state"])
        key, position = state["state"]["key"], state["state"]["pos"]
        # NumPy would read beyond the end of the key.
        if (key.shape, key.dtype) != ((624,), np.uint32) or position not in range(625):
            raise ValueError("the state of a random number generator is impossible")
        generator = np.random.RandomState(0)
        generator.set_state(state)
        return generator

    def _objects(self, node: dict[str, Any]) -> np.ndarray:
        values = self._all(node["objects"])
        array = np.empty(len(values), dtype=object)
        for index, value in enumerate(values):
            array[index] = value
        return array.reshape(node["shape"])

    def _instance(self, node: dict[str, Any]) -> Any:
        kind = named_class(node["class"])
        defaults = constructor_defaults(kind)
        is_estimator = issubclass(kind, BaseEstimator)
        given = node["parameters" if is_estimator else "fields"]
        self._require_known(kind, given, defaults)
        if not is_estimator:
            return kind(**self._named(given))
        self.uses_sklearn |= kind.__module__.startswith("sklearn.")
        model: Any = object.__new__(kind)  # not through its constructor, which may do or check something
        model.__dict__.update(defaults)
        model.__dict__.update(self._named(given))
        attributes = self._named(node["attributes"])
        shadowed = [name for name in attributes if callable(getattr(kind, name, None))]
        if shadowed:
            raise ValueError(f"attributes of {kind.__name__} are called like its methods: {listed(shadowed)}")
        model.__dict__.update(attributes)
        if hasattr(kind, "_require_whole"):
            model._require_whole()
        with sklearn.config_context(enable_metadata_routing=True):
            for method, requests in self._named(node.get("requests", {})).items():
                getattr(model, f"set_{method}_request")(**requests)
        return model

    def _require_known(self, kind: type, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        """Raise unless a class has what the file says of it, and defaults for the rest."""
        gone = given.keys() - defaults.keys()
        new = [name for name in defaults.keys() - given.keys() if defaults[name] is inspect.Parameter.empty]
        if gone or new:
            package = "scikit-learn" if kind.__module__.startswith("sklearn.") else "dgex"
            what = f"has {listed(gone)}, unknown" if gone else f"lacks {listed(new)}, needed"
            raise ModelFileError(
                f"{self._path} cannot be loaded: its {kind.__name__} is of {package} {self._written_by[package]} and "
                f"{what} in {package} {versions()[package]}. Install that release, or fit the model again."
            )


def is_plain(dtype: np.dtype[Any], kinds: str) -> bool:
    """Whether values of a type are plain bytes that mean the same everywhere."""
    wide = dtype.kind in "fc" and dtype.itemsize > (8 if dtype.kind == "f" else 16)
    return dtype.kind in kinds and dtype.itemsize > 0 and not wide


def dtype_of(text: str, kinds: str) -> np.dtype[Any]:
    """The type that a text such as "<f4" stands for."""
    if not re.fullmatch(rf"[<>|][{kinds}]\d*(\[\w+\])?", text):
        raise ValueError(f"a type is {text!r}, which models do not use")
    return np.dtype(text)


def constructor_defaults(kind: type) -> dict[str, Any]:
    """What a class is made with, and the defaults."""
    return {name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()}


def class_name(kind: type) -> str | None:
    """The name under which a class is found again; None for those that a model is not made of."""
    package, *modules = kind.__module__.split(".")
    if issubclass(kind, BaseEstimator):
        modules = modules[:1] if package == "sklearn" else []  # public names, which last longer
    name = ".".join([package, *modules, kind.__name__])
    try:
        return name if named_class(name) is kind else None
    except ValueError:
        return None


def named_class(name: str) -> type:
    """The estimator or record that a file names. Nothing else is found, and nothing is called."""
    home, _, title = name.rpartition(".")
    package, _, module = home.partition(".")
    known = {"dgex": re.fullmatch(r"(_[a-z]\w*)?", module), "sklearn": module in sklearn.__all__}
    if known.get(package):
        try:
            found = getattr(import_module(home), title, None)
        except ImportError as error:
            raise ValueError(f"{name} cannot be imported ({error})") from error
        if isinstance(found, type) and found.__module__.split(".")[0] == package:
            is_record = is_dataclass(found) or (issubclass(found, tuple) and hasattr(found, "_fields"))
            if issubclass(found, BaseEstimator) or (is_record and found.__module__ == home):
                return found
    raise ValueError(f"{CONTENTS} names {name!r}, which is not a class that models are made of")
