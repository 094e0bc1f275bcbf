"""Name and version of what serves."""

from importlib.metadata import PackageNotFoundError, version

NAME = "truthgpt-inference"
try:
    VERSION = version(NAME)
except PackageNotFoundError:
    VERSION = "0.0.0+source"
