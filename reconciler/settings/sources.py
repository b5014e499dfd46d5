"""Where settings come from: each source as a flat layer of dotted paths, every value with its origin in words."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from reconciler.settings.model import SECTIONS, Settings, setting_paths
from reconciler.settings.problems import similar

DEFAULT_FILE = Path("/etc/prefect-reconciler/reconciler.toml")
_PREFIX = "RECONCILER_"
_PATHS = frozenset({"state_dir", "api.key_file", "api.auth_string_file", "api.ca_file"})
_ALTERNATIVES = {
    "api.key": "api.key_file",
    "api.key_file": "api.key",
    "api.auth_string": "api.auth_string_file",
    "api.auth_string_file": "api.auth_string",
}
# Kubernetes sets these in every pod beside a Service whose name begins with "reconciler".
_SERVICE_LINK = re.compile(
    r"RECONCILER_(?:[A-Z0-9]+_)*?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9]+)*"
    r"|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


class Given(NamedTuple):
    """One value and where it came from ("environment PREFECT_API_URL")."""

    value: object
    origin: str


Layer = Mapping[str, Given]


class FileError(Exception):
    """A file that was named, or that is needed, cannot be read. The text is one sentence."""


def merge(layers: Iterable[Layer]) -> dict[str, Given]:
    """Join the layers, the strongest first. A stronger key displaces a weaker key file, and the reverse."""
    merged: dict[str, Given] = {}
    for layer in layers:
        weaker = {path: given for path, given in layer.items() if _ALTERNATIVES.get(path) not in merged}
        merged = weaker | merged
    return merged


def nested(layer: Layer) -> dict[str, Any]:
    """Unfold a flat layer to the form of the file."""
    tree: dict[str, Any] = {name: {} for name in SECTIONS}
    tops: dict[str, Any] = {}
    for path, given in layer.items():
        table, _, key = path.partition(".")
        if key and table in SECTIONS:
            tree[table][key] = given.value
        else:
            tops[path] = given.value
    return tree | tops  # a section that is not a table displaces the tables' values, and is refused


def _flat(tree: Mapping[str, object]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in tree.items():
        if name in SECTIONS and isinstance(value, Mapping):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat


def flags_layer(flags: Mapping[str, object]) -> Layer:
    """Flags by dotted path; None means that the flag was not given."""
    return {
        path: Given(value, f"flag --{path.rpartition('.')[2].replace('_', '-')}")
        for path, value in flags.items()
        if value is not None
    }


def config_file(named: Path | None, environ: Mapping[str, str]) -> tuple[Path, str]:
    """Say which file holds the configuration, and why that one."""
    if named is not None:
        return named, "flag --config"
    if environ.get("RECONCILER_CONFIG"):
        return Path(environ["RECONCILER_CONFIG"]), "environment RECONCILER_CONFIG"
    return DEFAULT_FILE, "default"


def read_toml(path: Path, what: str) -> dict[str, Any] | None:
    """Read a TOML file; None if there is none. Raises FileError."""
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileError(f"{what} {path} cannot be read: {error.strerror}; the service's user needs to") from None
    except UnicodeDecodeError as error:
        raise FileError(f"{what} {path} is not UTF-8 text, at byte {error.start}") from None
    except RecursionError:
        raise FileError(f"{what} {path} is nested too deep") from None
    except tomllib.TOMLDecodeError as error:
        raise FileError(f"{what} {path} is not valid TOML: {_where(str(error))}") from None


def _where(message: str) -> str:
    found = re.fullmatch(r"(?P<what>.*) \(at (?P<where>.*)\)", message, re.DOTALL)
    return f"{found['where']}: {found['what']}" if found else message


def file_layer(tree: Mapping[str, object], path: Path) -> Layer:
    """Flatten the file's settings. Its relative paths start at its own folder."""

    def located(name: str, value: object) -> object:
        return path.parent / value if name in _PATHS and isinstance(value, str) and value else value

    return {name: Given(located(name, value), f"file {path}") for name, value in _flat(tree).items()}


class _Variables(EnvSettingsSource):
    """RECONCILER_* of the mapping given, never of the process; a list is JSON or a,b,c."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(Settings)
        self.env_vars = {name.lower(): value for name, value in environ.items()}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Read a list or a table."""
        del field_name
        if value.lstrip().startswith(("[", "{")):
            return json_or_text(value)
        return value if "Mapping" in str(field.annotation) else [part.strip() for part in value.split(",")]


def environment_layer(environ: Mapping[str, str]) -> tuple[Layer, list[str]]:
    """RECONCILER_* variables, and a problem for each unknown one. An empty variable counts as not set."""
    names = {_variable(path): path for path in setting_paths()}
    ours = {name: value for name, value in environ.items() if name.startswith(_PREFIX) and value}
    unknown = [name for name in ours if name not in {*names, "RECONCILER_CONFIG"} and not _SERVICE_LINK.fullmatch(name)]
    flat = _flat(_Variables({name: ours[name] for name in names if name in ours})())
    layer = {path: Given(value, f"environment {_variable(path)}") for path, value in flat.items()}
    return layer, [_unknown_variable(name, [*names, "RECONCILER_CONFIG"]) for name in sorted(unknown)]


def _variable(path: str) -> str:
    return _PREFIX + path.replace(".", "__").upper()


def _unknown_variable(name: str, known: list[str]) -> str:
    if name.startswith("RECONCILER_SCOPES"):
        return f"{name}: scopes come from the file only; write a [[scopes]] table"
    same_end = [other for other in known if other.endswith(f"__{name.removeprefix(_PREFIX)}")]
    return f"{name}: no such variable{similar(name, same_end or known)}"


def json_or_text(value: str) -> object:
    """Read JSON; what is none stays text, and fails when it is validated."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def credentials_layer(environ: Mapping[str, str]) -> Layer:
    """The API key that systemd's `LoadCredential=prefect-api-key:...` provides."""
    folder = environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / "prefect-api-key" if folder else None
    return {"api.key_file": Given(path, "environment CREDENTIALS_DIRECTORY")} if path and not _is_absent(path) else {}


def _is_absent(path: Path) -> bool:
    """Whether it is not there. One that may not be looked at is not absent: reading it says why."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def home_folder(environ: Mapping[str, str]) -> Path | None:
    """The user's home; None if there is none."""
    try:
        return Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    except RuntimeError:  # a user id without an entry, as in some containers
        return None


def defaults_layer(environ: Mapping[str, str]) -> Layer:
    """Defaults that depend on the machine."""
    layer = {"state_dir": _state_dir(environ)}
    if environ.get("SSL_CERT_FILE"):
        layer["api.ca_file"] = Given(Path(environ["SSL_CERT_FILE"]), "environment SSL_CERT_FILE")
    return layer


def _state_dir(environ: Mapping[str, str]) -> Given:
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]  # systemd joins several by ":"
    home = home_folder(environ)
    if given:
        return Given(Path(given), "environment STATE_DIRECTORY")
    if environ.get("XDG_STATE_HOME") and os.geteuid() != 0:
        return Given(Path(environ["XDG_STATE_HOME"]) / "prefect-reconciler", "environment XDG_STATE_HOME")
    if os.geteuid() == 0 or home is None:
        return Given(Settings.model_fields["state_dir"].default, "default")
    return Given(home / ".local" / "state" / "prefect-reconciler", "default")
