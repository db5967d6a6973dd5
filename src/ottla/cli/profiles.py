"""`ottla profiles`: names for clusters, and how to reach them, in `~/.config/ottla/config.toml`.

The file is TOML: `use = "name"` and a table `[profiles.name]` each, with Kafka's settings of clients as texts. It may
hold passwords, so only its owner can read it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ottla.cli.errors import CommandError

HIDDEN = "[hidden]"


def config_path(variables: Mapping[str, str] | None = None) -> str:
    """Where the profiles are: below XDG_CONFIG_HOME, or ~/.config."""
    variables = os.environ if variables is None else variables
    home = variables.get("XDG_CONFIG_HOME") or os.path.join(variables.get("HOME") or os.path.expanduser("~"), ".config")
    return os.path.join(home, "ottla", "config.toml")


class Profiles:
    """What the file says. `load` reads it, `save` writes it back with everything else that was in it."""

    def __init__(self, path: str, content: dict[str, Any]) -> None:
        self.path = path
        self._content = content
        profiles = content.setdefault("profiles", {})
        if not isinstance(profiles, dict) or not all(isinstance(one, dict) for one in profiles.values()):
            raise CommandError(f"{path}: profiles must be tables, as in [profiles.local]")
        self.profiles: dict[str, dict[str, Any]] = profiles

    @classmethod
    def load(cls, variables: Mapping[str, str] | None = None) -> Profiles:
        """The file's profiles, none when there is no file. Raises `CommandError` for one that cannot be read."""
        path = config_path(variables)
        try:
            with open(path, "rb") as file:
                import tomllib

                return cls(path, tomllib.load(file))
        except FileNotFoundError:
            return cls(path, {})
        except OSError as error:
            raise CommandError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
        except ValueError as error:  # of TOML, or of its UTF-8
            raise CommandError(f"{path} is not valid TOML: {error}") from None

    @property
    def in_use(self) -> str | None:
        """The profile that commands take when they are told nothing else."""
        name = self._content.get("use")
        return name if isinstance(name, str) and name else None

    @in_use.setter
    def in_use(self, name: str | None) -> None:
        if name is None:
            self._content.pop("use", None)
        else:
            self._content = {"use": name, **{key: value for key, value in self._content.items() if key != "use"}}

    def get(self, name: str) -> dict[str, str]:
        """The settings of a profile by Kafka's names. Raises `CommandError` when there is no such profile."""
        if name not in self.profiles:
            from ottla.schema.definition import nearest

            suggestion = nearest(name, list(self.profiles))
            hint = f"did you mean {suggestion}?" if suggestion else "`ottla profiles list` shows them"
            raise CommandError(f"there is no profile {name!r}; {hint}")
        return dict(_flat(self.profiles[name]))

    def save(self) -> None:
        """Write the file as a whole, readable by its owner alone. Raises `CommandError`."""
        directory = os.path.dirname(self.path)
        temporary = f"{self.path}.{os.getpid()}.tmp"
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(toml_text(self._content))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            raise CommandError(f"cannot write {self.path}: {(error.strerror or str(error)).lower()}") from None


def is_secret(name: str) -> bool:
    """Whether a setting's value must not be shown."""
    lower = name.lower()
    if any(word in lower for word in ("password", "passphrase", "secret", "jaas", "keystore.key")):
        return True
    from ottla.client.settings.tables import ADMIN_SETTINGS

    return name in ADMIN_SETTINGS and ADMIN_SETTINGS[name].is_sensitive


def toml_text(content: Mapping[str, Any]) -> str:
    """A TOML document with these values and tables: as much of TOML as a hand-written config.toml may have."""
    lines = ["# Written by `ottla profiles`; comments are not kept."]
    _write_table(lines, (), content)
    return "\n".join(lines) + "\n"


def _write_table(lines: list[str], path: tuple[str, ...], table: Mapping[str, Any]) -> None:
    plain = {name: value for name, value in table.items() if not isinstance(value, dict)}
    if path and (plain or not table):
        lines += ["", f"[{'.'.join(map(_toml_key, path))}]"]
    lines += [f"{_toml_key(name)} = {_toml_value(value)}" for name, value in plain.items()]
    for name, value in table.items():
        if isinstance(value, dict):
            _write_table(lines, (*path, name), value)


def _toml_key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else _toml_string(name)


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _toml_string(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_toml_key(key)} = {_toml_value(item)}' for key, item in value.items())}}}"
    return str(value)  # numbers, dates and times are written as they print


def _toml_string(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped as well.
    import json

    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """`sasl.username = …` without quotes is a table in a table for TOML; both spellings mean the same setting."""
    found = []
    for name, value in table.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            found.append((prefix + name, "true" if value else "false"))
        elif isinstance(value, list):
            found.append((prefix + name, ",".join(map(str, value))))
        else:
            found.append((prefix + name, str(value)))
    return found
