"""A backend is one file: the folder listing is the register."""

import importlib
import pkgutil
from types import ModuleType

from services.core.errors import BadSetting


def names(package: ModuleType) -> list[str]:
    """The backends of a package, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load(package: ModuleType, name: str, *, env: str = "dev") -> ModuleType:
    """The backend's module.

    Raises:
        BadSetting: no such backend, or one with PRODUCTION = False while env is prod.
    """
    if name not in names(package):
        raise BadSetting(f"{name!r} is none of {names(package)}")
    module = importlib.import_module(f"{package.__name__}.{name}")
    if env == "prod" and not module.PRODUCTION:
        raise BadSetting(f"{package.__name__.split('.')[-1]} {name!r} is for development, env is prod")
    return module
