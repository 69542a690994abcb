"""What was asked of `covr-bench run`, as a value: typed, from a YAML file or from Python; stored with each run."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Predicate

from covr_bench.kit.errors import UserError, unknown
from covr_bench.kit.extensions import absolute
from results.layout import REQUEST_FILE, store_of
from suites.checked import no_seed_twice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Kernel = Literal["auto", "torch", "winograd"]


@dataclass(frozen=True)
class Request:
    """The options of `covr-bench run`; empty and None mean the suite's, the budget's or the machine's own choice.

    Attributes:
        suite: Name, or path of a `.py` file that defines SUITE.
        agents: Names or paths. tasks, variants: Names.
        seeds: Of the runs. vlm: Of the agents that ask one.
        budget: Name, or path of a `.py` file that defines BUDGET.
        env_steps: Length of each run in environment steps, instead of the budget's.
        settings: What `--set` takes, `{"drqv2.lr": "1e-3", "env.render": "fast"}`.
        workers: Runs at a time. per_gpu: Runs on each GPU, on all GPUs.
        device: A torch device, or auto. conv_kernel: What convolves on a CPU.
        launcher: Name or path; launcher_settings: its own options.
        trackers: Names or paths; tracker_settings: their options, by `name.key`.
        restart: Begin anew what is stored and unfinished, or was made with other code.
        accept_changed_code: Go on with runs whose code has changed; their rows are labelled.
        allow_silent_vlm: Keep runs whose VLM never answered with an action; their rows are labelled.
        out: Folder of the results. checkpoint_every: Seconds between checkpoints of a run.
    """

    suite: str
    agents: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    seeds: Annotated[tuple[Annotated[int, Ge(0)], ...], Predicate(no_seed_twice)] = ()
    budget: str = "paper"
    env_steps: Annotated[int, Ge(1)] | None = None
    settings: dict[str, str] = field(default_factory=dict)
    vlm: str = ""
    workers: Annotated[int, Ge(1)] | None = None
    per_gpu: Annotated[int, Ge(1)] | None = None
    device: str = "auto"
    conv_kernel: Kernel = "auto"
    launcher: str = "local"
    launcher_settings: dict[str, str] = field(default_factory=dict)
    trackers: tuple[str, ...] = ()
    tracker_settings: dict[str, str] = field(default_factory=dict)
    checkpoint_every: Annotated[float, Gt(0)] = 300.0
    restart: bool = False
    accept_changed_code: bool = False
    allow_silent_vlm: bool = False
    out: str = "results"

    def resolved(self) -> Request:
        """The same with files by their whole paths, since workers and later commands may start elsewhere."""
        refs: dict[str, Any] = {name: tuple(map(absolute, getattr(self, name))) for name in ("agents", "trackers")}
        refs |= {name: absolute(getattr(self, name)) for name in ("suite", "budget", "launcher", "vlm")}
        if self.vlm and (vlm := Path(os.path.expanduser(self.vlm))).is_dir():
            refs["vlm"] = str(vlm.resolve())
        refs["out"] = os.path.expanduser(self.out)
        of_files = [key for key in self.settings if key.rpartition(".")[2] in FILES]
        return replace(self, **refs, settings=self.settings | {key: absolute(self.settings[key]) for key in of_files})

    def as_dict(self) -> dict[str, Any]:
        """What differs from the defaults, as JSON values."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {key: value for key, value in plain.items() if value != _plain_default(key)}

    def command(self) -> str:
        """The command line that asks the same."""
        words = ["covr-bench", "run"]
        for key, value in self.as_dict().items():
            words += _words(OPTIONS[key], value)
        return shlex.join(words)


OPTIONS = {item.name: item.name.replace("_", "-") for item in fields(Request)} | {
    "agents": "agent",
    "tasks": "task",
    "variants": "variant",
    "settings": "set",
    "launcher_settings": "set-launcher",
    "trackers": "track",
    "tracker_settings": "set-track",
}
"""What each field is called on the command line, and in a YAML file."""
FILES = ("base", "vlm")  # settings of agents that can name a .py file
SETTINGS = ("settings", "launcher_settings", "tracker_settings")  # fields of settings by name


def request(values: Mapping[str, Any], origin: str = "the request") -> Request:
    """A checked request from named values, such as a YAML file's or those of `covr_bench.run(...)`.

    Args:
        values: By the name of the field or of its option; a single name where several can stand, and seeds as text
            such as `0-4`, are taken too.
        origin: Where they come from, for errors.

    Raises:
        UserError: An unknown name, or a value of the wrong type.
    """
    from pydantic import TypeAdapter, ValidationError

    given = _by_field({key: _plain(key, value) for key, value in values.items() if value is not None}, origin)
    for key, value in given.items():
        _check_named(key, value)
    given = {key: _several(key, value) for key, value in given.items()}
    if not given.get("suite"):
        raise UserError(f"{origin} names no suite; say suite: dmc6, or another of `covr-bench list suites`")
    try:
        return TypeAdapter(Request).validate_python(given).resolved()
    except ValidationError as error:
        lines = [f"{OPTIONS[str(e['loc'][0])]} = {e['input']!r}: {e['msg']}" for e in error.errors()]
        raise UserError(f"bad value in {origin}: " + "; ".join(dict.fromkeys(lines))) from error


def overlay(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Named values with others laid over them, field by field; settings are joined key by key.

    Args:
        values: Those below, by field.
        given: Those above; None, no values and False say nothing.

    Raises:
        UserError: A name above is empty, as that of a shell's variable which is not set.
    """
    joined = dict(values)
    for name, value in given.items():
        _check_named(name, value)
        if name in SETTINGS:
            joined[name] = by_name(OPTIONS[name], values.get(name)) | value
        elif value or (value == 0 and not isinstance(value, bool)):
            joined[name] = value
    return joined


def from_yaml(path: Path) -> dict[str, Any]:
    """The options in a YAML file, by their names; a run's own asks for the run where it lies now. Raises UserError."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        values, repeated = yaml.safe_load(text) or {}, next(_repeated(yaml.compose(text, yaml.SafeLoader)), "")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise UserError(
            f"{path} should hold options by name, such as `suite: dmc6`; it holds a {type(values).__name__}"
        )
    if repeated:
        raise UserError(f"{path} gives {repeated!r} twice, and only one can hold; leave one out")
    own = {"out": str(store)} if path.name == REQUEST_FILE and (store := store_of(path.parent)) else {}
    return _by_field({str(key): value for key, value in values.items()}, str(path)) | own


def _repeated(root: Any) -> Iterator[str]:
    """Keys that a file's mapping, or one of settings in it, has twice: YAML's readers keep the last in silence."""
    pairs = root.value if isinstance(getattr(root, "value", None), list) and root.id == "mapping" else []
    for mapping in [pairs, *(value.value for _, value in pairs if value.id == "mapping")]:
        keys = [key.value for key, _ in mapping]
        yield from (key for key in keys if keys.count(key) > 1)


def to_yaml(options: Mapping[str, Any]) -> str:
    """Options as a YAML file that `--config` takes. options: of `Request.as_dict`."""
    import yaml

    return str(yaml.safe_dump({OPTIONS[key]: value for key, value in options.items()}, sort_keys=False))


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds as typed, `"0,1,2"` or `"0-4"` or both. Raises UserError."""
    seeds: list[int] = []
    try:
        for part in filter(None, text.split(",")):
            first, dash, last = part.partition("-")
            some = range(int(first), int(last) + 1) if dash else [int(part)]
            if not some:
                raise UserError(f"--seeds takes ranges from the smaller to the larger, got {part!r}")
            seeds += some
    except ValueError:
        raise UserError(f"--seeds takes numbers and ranges such as 0,1,2 or 0-4, got {text!r}") from None
    if len(set(seeds)) < len(seeds) or (text and not seeds):
        raise UserError(f"--seeds names {'no seed' if not seeds else 'a seed twice'}: {text!r}")
    return tuple(seeds)


def parse_pairs(items: Iterable[str], option: str = "--set") -> dict[str, str]:
    """`["lr=1e-3", "env.render=fast"]` as a mapping. Raises UserError for anything else."""
    pairs: dict[str, str] = {}
    for item in items:
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise UserError(f"{option} takes key=value, got {item!r}")
        if key.strip() in pairs:
            raise UserError(f"{option} gives {key.strip()!r} twice")
        pairs[key.strip()] = value.strip()
    return pairs


def _by_field(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Values by the fields their names stand for. Raises UserError for an unknown name, or two names of one field."""
    found: dict[str, str] = {}
    for name in values:
        field_name = _field(name, origin)
        if field_name in found:
            raise UserError(f"{origin} gives both {found[field_name]!r} and {name!r}, which are one; leave one out")
        found[field_name] = name
    return {field_name: values[name] for field_name, name in found.items()}


def _field(name: str, origin: str) -> str:
    """The field that a name stands for."""
    key = name.replace("-", "_")
    for field_name, option in OPTIONS.items():
        if key in (field_name, option.replace("-", "_")):
            return field_name
    raise unknown(f"option in {origin}", name, OPTIONS.values())


def _several(key: str, value: Any) -> Any:
    """A value of the field's kind where a person may write a simpler one."""
    if key == "seeds" and isinstance(value, int | str) and not isinstance(value, bool):
        return parse_seeds(str(value))
    if key in ("agents", "tasks", "variants", "trackers") and isinstance(value, str):
        return (value,)
    if key in SETTINGS:
        return by_name(OPTIONS[key], value)
    return value


def _plain(key: str, value: Any) -> Any:
    """A value from Python as a YAML file would give it: paths as text, arrays as lists. Raises UserError."""
    if is_dataclass(value):
        raise UserError(
            f"{key} is a {type(value).__name__} made in Python, which no worker or later command could find again: "
            "write it to a .py file, and give that file's path"
        )
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(key, each) for each in value]
    if isinstance(value, Path):
        return str(value)
    return value.tolist() if hasattr(value, "tolist") else value  # numpy's scalars, too


def _check_named(key: str, value: Any) -> None:
    if value == "" or (isinstance(value, list | tuple) and "" in value):
        raise UserError(f"--{OPTIONS[key]} is empty: give a name, or leave it out for the default")


def by_name(option: str, value: Any) -> dict[str, str]:
    """Settings by name, given so or as a list of `KEY=VALUE`, as they would be typed. Raises UserError."""
    if isinstance(value, list | tuple):
        return parse_pairs(map(str, value), f"--{option}")
    if value is not None and not hasattr(value, "items"):
        raise UserError(f"{option} = {value!r}: give settings by name, such as {{lr: 1e-3}}")
    return {str(name): _text(setting) for name, setting in (value or {}).items()}


def _text(setting: Any) -> str:
    """A setting as it would be typed: a YAML file or Python gives numbers, booleans, lists and None, too."""
    as_json = setting is None or isinstance(setting, bool | list | tuple | dict)
    return json.dumps(setting, default=str) if as_json else str(setting)


@cache
def _plain_default(key: str) -> Any:
    item = next(item for item in fields(Request) if item.name == key)
    value = item.default if not callable(item.default_factory) else item.default_factory()
    return list(value) if isinstance(value, tuple) else value


def _words(option: str, value: Any) -> list[str]:
    if option == "seeds":
        return ["--seeds", ",".join(map(str, value))]
    if isinstance(value, bool):
        return [f"--{option}"] if value else []
    if isinstance(value, dict):
        return [word for key, setting in value.items() for word in (f"--{option}", f"{key}={setting}")]
    if isinstance(value, list):
        return [word for item in value for word in (f"--{option}", str(item))]
    return [f"--{option}", str(value)]
