"""Bytes of a fitted river or scikit-learn model, which only those libraries' own classes can be read from."""

from __future__ import annotations

import io
import pickle
from importlib.metadata import version
from typing import Any

from processors.payload import decode_payload, encode_payload

_FORMAT = "chronotope.feature_model.1"
_LIBRARIES = ("river", "scikit-learn")
_PACKAGES = (
    "river._river_rust",
    "river.facto",
    "river.linear_model",
    "river.optim",
    "river.preprocessing",
    "river.reco",
    "river.stats",
    "sklearn.decomposition",
    "processors.profile",
)
_NAMES = {
    "builtins": {"float", "set"},
    "collections": {"Counter", "defaultdict"},
    "functools": {"partial"},
    "numpy": {"dtype", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy.random._mt19937": {"MT19937"},
    "numpy.random._pickle": {"__bit_generator_ctor", "__randomstate_ctor"},
    "random": {"Random"},
}


class _Unpickler(pickle.Unpickler):
    """A stored model comes from a topic, and a pickle may call anything: it may only name what a model is made of."""

    def find_class(self, module: str, name: str) -> Any:
        in_library = any(module == package or module.startswith(package + ".") for package in _PACKAGES)
        if "." in name or not (in_library or name in _NAMES.get(module, ())):
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a model")
        found = super().find_class(module, name)
        if in_library and not isinstance(found, type):
            raise pickle.UnpicklingError(f"{module}.{name} is no class")
        return found


def dump_model(model: Any) -> bytes:
    """The bytes of a model, marked with the versions of the libraries that must read it."""
    versions = {name: version(name) for name in _LIBRARIES}
    return encode_payload(_FORMAT, {"versions": versions, "model": pickle.dumps(model)})


def load_model(payload: bytes) -> Any:
    """The model of :func:`dump_model`.

    Raises:
        ValueError: another payload, other versions of the libraries, or a class that is no part of a model.
    """
    parts = decode_payload(_FORMAT, payload)
    here = {name: version(name) for name in _LIBRARIES}
    if parts["versions"] != here:
        raise ValueError(f"payload was written with {parts['versions']}, here are {here}: train the model anew")
    try:
        return _Unpickler(io.BytesIO(parts["model"])).load()
    except (pickle.UnpicklingError, AttributeError, EOFError, ImportError, IndexError) as error:
        raise ValueError(f"payload holds no model: {error}") from error
