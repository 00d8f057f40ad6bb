"""A recipe's file: what it is for, the network it trains, how that is converted, and its knobs.

All parts may be left out; the knobs stand beside `about`, `source`, `pretrained`, `batch_size` and
`convert` at the top level. Torch-free; `request.py` makes a `Recipe` of the knobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path, PurePath
from textwrap import wrap
from typing import Annotated, Any

import yaml
from pydantic import Field, StrictBool, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from irbin.errors import UsageError
from irbin.messages import nearest, one_line, system_says
from irbin.recipes.recipe import Recipe
from irbin.records.json import JsonValue, from_json, to_json
from irbin.records.knob import knobs_of
from irbin.records.options import DEFAULT_BATCH_SIZE, DataOptions, SourceOptions, check_given
from irbin.records.plan import PlanOptions


@dataclass(frozen=True)
class RecipeFile:
    """What a recipe says itself, without any defaults. Made by `read_recipe`, read by the verbs."""

    name: str
    """As the user named it."""
    text: str = ""
    """The file, word for word."""
    about: str = ""
    """What it is for, in a line."""
    source: str | None = None
    """The network it trains where the user names none."""
    pretrained: StrictBool = True
    """Whether `source` comes with its weights."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Images per step where the user does not say."""
    convert: dict[str, JsonValue] | None = None
    """Fields of `PlanOptions`: a float network is converted first; None trains it as it is."""
    knobs: dict[str, JsonValue] = field(default_factory=dict)
    """Fields of `Recipe`, unchecked."""

    @property
    def plan_options(self) -> PlanOptions | None:
        """How a float network is converted; None if it is not."""
        return None if self.convert is None else plan_options(self.convert)

    def batched(self, data: DataOptions) -> DataOptions:
        """The data's options with the recipe's batch size where they leave it open."""
        check_given(data=data, needs_data=True)
        if data.batch_size is not None:
            return data
        return replace(data, batch_size=self.batch_size or DEFAULT_BATCH_SIZE)


HEAD = ("about", "source", "pretrained", "batch_size", "convert")
"""Names in a recipe's file that are no knobs."""

DEFAULT = "default"
"""Name of the recipe whose knobs are those of `Recipe()`; it has no file."""
_ABOUT_DEFAULT = """\
about: a short run from pretrained weights
# A short fine-tune of a converted network that starts from a pretrained float one.
# Every knob stands here; other recipes and files say only what differs. Flags override.
"""

MAX_RECIPE_BYTES = 1 << 20
"""Of a recipe's file."""

_ADAPTER: TypeAdapter[RecipeFile] = TypeAdapter(RecipeFile)


@cache
def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that come with irbin."""
    files = _folder().iterdir()
    named = [file.name[:-5] for file in files if file.name.endswith(".yaml")]
    return tuple(sorted([DEFAULT, *named]))


def read_recipe(name_or_file: str | RecipeFile | None) -> RecipeFile:
    """A named recipe, a YAML file, or the `args.yaml` of an earlier run; None is an empty one.

    What was read already is given back.

    Raises:
        UsageError: no such recipe or file, not YAML, or something in it that cannot be meant.
    """
    if name_or_file is None:
        return RecipeFile("")
    if isinstance(name_or_file, RecipeFile):
        return name_or_file
    if not isinstance(name_or_file, str | PurePath):
        kind = type(name_or_file).__name__
        raise UsageError(f"`recipe`: expected a name or a file, got a `{kind}`")
    name_or_file = str(name_or_file)
    text = _text(name_or_file)
    content = _of_run(_mapping(text, name_or_file))
    head = {name: value for name, value in content.items() if name in HEAD and value is not None}
    knobs = {name: value for name, value in content.items() if name not in HEAD}
    try:
        file = _ADAPTER.validate_python(
            {"name": name_or_file, "text": text, "knobs": knobs, **head}
        )
    except ValidationError as error:
        first = error.errors()[0]
        place = str(first["loc"][0])
        raise UsageError(
            f"`recipe=`: {name_or_file} sets `{place}`: {first['msg']}, got "
            f"{repr(content.get(place))[:80]}"
        ) from error
    try:
        _ = file.plan_options
    except UsageError as error:
        raise UsageError(f"`recipe=`: {name_or_file} sets `convert`: {error}") from error
    return file


def knob_lines(recipe: Recipe) -> str:
    """A recipe as lines of a file that says everything: each knob with what it does, and why so.

    Why a default is what it is stands above it, where the recipe has it.
    """
    values, panel, lines = to_json(recipe), "", []
    for declared in knobs_of(type(recipe)):
        name, knob = declared.name, declared.knob
        if knob.panel != panel:
            panel = knob.panel or ""
            lines += ["", f"# {panel}"]
        if knob.why and getattr(recipe, name) == declared.default:
            lines += [f"# {words}" for words in wrap(knob.why, 98)]
        lines.append(f"{line_of(name, values[name])}  # {knob.help}")
    return "\n".join(lines) + "\n"


def line_of(name: str, value: JsonValue) -> str:
    """A recipe's line that sets a field."""
    text = yaml.safe_dump(
        value, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return f"{name}: {text.removesuffix(_END).strip()}"


_END = "...\n"
"""What YAML puts behind a document that is a word or a number."""


def plan_options(options: Mapping[str, Any]) -> PlanOptions:
    """The record of keyword arguments, checked.

    Raises:
        UsageError: no such field, or a value of another type.
    """
    known = [f.name for f in fields(PlanOptions)]
    for name in options:
        if name not in known:
            raise UsageError(
                f"plan options: no option `{name}`{_where_it_belongs(str(name), known)}"
            )
    lists = {name: _listed(name, options[name]) for name in _RULES if name in options}
    return from_json(PlanOptions, {**options, **lists}, "plan options")


def _where_it_belongs(name: str, known: list[str]) -> str:
    """What to do with an option that is none of a plan's."""
    for record, argument in ((SourceOptions, "source_options"), (DataOptions, "data")):
        if name in {field.name for field in fields(record)}:
            return f"; give `{argument}=irbin.{record.__name__}({name}=…)`"
    return nearest(name, known)


def _listed(name: str, value: Any) -> tuple[Any, ...]:
    """A tuple where a list came, so that options of a file and of a command line are equal."""
    if not isinstance(value, list | tuple):
        how = f"; give `[{value!r}]`" if isinstance(value, str) else ""
        raise UsageError(f"plan options: `{name}`: expected a list of names, got {value!r}{how}")
    return tuple(value)


_RULES = ("keep", "binarize")
"""Options of a plan that are lists of names of layers."""


def _text(name_or_file: str) -> str:
    is_file = name_or_file.endswith((".yaml", ".yml")) or Path(name_or_file).is_file()
    if not is_file and name_or_file not in recipe_names():
        raise UsageError(
            "`recipe`: expected a name that `irbin recipes` lists or a .yaml file, got "
            f"`{name_or_file}`{nearest(name_or_file, recipe_names())}"
        )
    if not is_file and name_or_file == DEFAULT:
        return _ABOUT_DEFAULT + knob_lines(Recipe())
    path = Path(name_or_file) if is_file else _folder().joinpath(f"{name_or_file}.yaml")
    try:
        if is_file and Path(name_or_file).stat().st_size > MAX_RECIPE_BYTES:
            raise UsageError(
                f"`recipe`: expected at most {MAX_RECIPE_BYTES} bytes in {name_or_file}"
            )
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"`recipe=`: cannot read {name_or_file}: {system_says(error)}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"`recipe`: expected YAML in {name_or_file}, got: {error}") from error


class _Loader(yaml.SafeLoader):
    """Plain values under texts, each once; no aliases, which can stand for a billion values."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "an alias, which is not read", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            wrong = None
            if not (isinstance(name, str) and name.isprintable()):
                wrong = f"the name {key.value!r}, which is no plain text; write it in quotes"
            elif name in names:
                wrong = f"`{name}` twice"
            if wrong is not None:
                raise yaml.constructor.ConstructorError(None, None, wrong, key.start_mark)
            names.add(name)
        return super().construct_mapping(node, deep)


def _mapping(text: str, where: str) -> dict[str, JsonValue]:
    try:
        content = yaml.load(text, _Loader)  # a safe one
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"`recipe`: expected YAML in {where}, got: {one_line(error)}") from error
    except RecursionError as error:
        raise UsageError(
            f"`recipe`: expected YAML in {where}, got lists too deep to read"
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(
            f"`recipe`: expected lines `name: value` in {where}, got a {type(content).__name__}"
        )
    return content


def _of_run(content: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Of a run's `args.yaml` knobs, batch size and conversion, else the content itself."""
    if not isinstance(content.get("recipe"), dict):
        return content
    command = content.get("command")
    convert = command.get("convert") if isinstance(command, dict) else None
    data = content.get("data")
    batch_size = data.get("batch_size") if isinstance(data, dict) else None
    return {**content["recipe"], "batch_size": batch_size, "convert": convert}


def _folder() -> Any:
    return resources.files(__package__)
