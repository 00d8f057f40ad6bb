"""timm's names looked up before anything is built: registry names, `hf-hub:…`, `local-dir:…`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import timm
from timm.models import load_model_config_from_hf
from timm.models._hub import load_model_config_from_path

from irbin.errors import SourceError
from irbin.hub.reach import asking_the_hub, hub_unreachable
from irbin.messages import nearest, with_class
from irbin.sources.feeding import FIELDS

_CFG_FIELDS = {field.name for field in fields(timm.models.PretrainedCfg)}


@dataclass(frozen=True, eq=False)
class TimmModel:
    """A timm name looked up: everything but the network itself."""

    architecture: str
    """Registry name without a tag."""
    cfg: dict[str, Any]
    """timm's pretrained configuration."""
    model_args: dict[str, Any]
    """Arguments of the factory that a hub or local folder states."""
    weights: str
    """Tag, hub repository or folder that the weights come from."""
    folder: Path | None = None
    """Local folder, if that is where they are."""
    stated: frozenset[str] = frozenset(FIELDS)
    """What the configuration says of how images are fed."""


def find_timm(name: str) -> TimmModel:
    """Looks a timm name up, without building or fetching weights (`hf-hub:` fetches its config)."""
    kind, _, rest = name.partition(":")
    if kind == "local-dir" and rest:
        return _find_folder(Path(rest).expanduser())
    if kind in ("hf-hub", "hf_hub") and rest:
        return _find_hub(rest)
    if ":" in name or "/" in name or not name:
        raise SourceError(
            f"unknown source `{name}`: expected a timm name, `hf-hub:OWNER/NAME`, "
            "`local-dir:PATH`, `torchvision:NAME`, `paper:NAME`, "
            "`module:PACKAGE.MODULE:FACTORY` or a checkpoint file"
        )
    return _find_registered(name)


def is_timm_name(name: str) -> bool:
    """Whether timm has, or had, a model of this name, with or without a tag."""
    return name in timm.models.get_deprecated_models() or timm.is_model(name.partition(".")[0])


def _find_registered(name: str) -> TimmModel:
    deprecated = timm.models.get_deprecated_models()
    if name in deprecated:
        if not deprecated[name]:
            raise SourceError(
                f"timm removed `{name}` and names no replacement; choose another model"
            )
        name = deprecated[name]
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = nearest(architecture, timm.list_models())
        raise SourceError(f"unknown model `{name}`{close}; `timm.list_models()` lists them all")
    try:
        cfg = timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = timm.models.list_pretrained(f"{architecture}.*")
        raise SourceError(f"`{architecture}` has no tag `{tag}`{nearest(name, tags)}") from error
    cfg = (cfg or timm.models.PretrainedCfg()).to_dict()
    weights = f"{architecture}.{cfg['tag']}" if cfg.get("tag") else architecture
    return TimmModel(architecture, cfg, {}, weights)


def _find_folder(folder: Path) -> TimmModel:
    folder = folder.absolute()
    if not folder.is_dir():
        raise SourceError(f"`local-dir:{folder}`: no such folder")
    if not (folder / "config.json").is_file():
        raise SourceError(f"`local-dir:{folder}`: expected a `config.json` in it, found none")
    try:
        parsed = load_model_config_from_path(folder)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise SourceError(
            f"`{folder / 'config.json'}`: expected timm's configuration with `architecture` and "
            f"`pretrained_cfg` ({with_class(error)}); give `model='NAME'` for its weights"
        ) from error
    return _described(parsed, str(folder), folder)


def _find_hub(repository: str) -> TimmModel:
    try:
        with asking_the_hub():
            parsed = load_model_config_from_hf(repository)
    except KeyError as error:
        raise SourceError(
            f"`hf-hub:{repository}`: expected timm's `config.json`, this one has no {error}"
        ) from error
    except Exception as error:  # the hub's client and its transport have no common ancestor
        raise hub_unreachable(f"hf-hub:{repository}", repository, error) from error
    return _described(parsed, f"hf-hub:{repository}")


def _described(parsed: Any, weights: str, folder: Path | None = None) -> TimmModel:
    """What a folder's or repository's config.json says, as far as this timm knows its words."""
    cfg, architecture, model_args = parsed
    architecture = str(architecture).partition(".")[0]
    if not timm.is_model(architecture):
        close = nearest(architecture, timm.list_models())
        raise SourceError(f"`{weights}` names the unknown architecture `{architecture}`{close}")
    known = {key: value for key, value in dict(cfg).items() if key in _CFG_FIELDS}
    said = frozenset(key for key, value in known.items() if value is not None)
    cfg = timm.models.PretrainedCfg(**known).to_dict()
    return TimmModel(architecture, cfg, dict(model_args or {}), weights, folder, said)
