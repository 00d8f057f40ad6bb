"""What values the knobs of a recipe can have: alone, as kinds of numbers, and together.

The kinds stand in the `Annotated` of a field and are checked by pydantic, which is loaded then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from irbin.errors import UsageError
from irbin.records.given import LARGEST


@dataclass(frozen=True)
class Bounded:
    """A finite number within bounds, and no boolean, which Python takes for 1."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def __get_pydantic_core_schema__(self, kind: Any, handler: Any) -> Any:
        """How pydantic checks it."""
        from pydantic_core import core_schema

        bounds = {name: bound for name, bound in vars(self).items() if bound is not None}
        finite = {"allow_inf_nan": False} if kind is float else {}
        schema = {**handler(kind), **bounds, **finite}
        return core_schema.no_info_before_validator_function(_no_boolean, schema)


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        from pydantic_core import PydanticCustomError

        raise PydanticCustomError("number", "Input should be a number")
    return value


@dataclass(frozen=True)
class _OffWord:
    """YAML reads a bare `off` as false; null is how runs before 0.2 wrote it."""

    def __get_pydantic_core_schema__(self, kind: Any, handler: Any) -> Any:
        """How pydantic checks it."""
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(_off, handler(kind))


def _off(value: object) -> object:
    return "off" if value is None or value is False else value


Count = Annotated[int, Bounded(ge=1, le=LARGEST)]
Whole = Annotated[int, Bounded(ge=0, le=LARGEST)]
Amount = Annotated[float, Bounded(ge=0, le=LARGEST)]
Positive = Annotated[float, Bounded(gt=0, le=LARGEST)]
Share = Annotated[float, Bounded(ge=0, le=1)]
Quantile = Annotated[float, Bounded(gt=0.5, lt=1)]
BelowOne = Annotated[float, Bounded(ge=0, lt=1)]
Amp = Annotated[Literal["auto", "bfloat16", "float16", "off"], _OffWord()]
Schedule = Literal["cosine", "tanh", "step", "multistep", "poly", "wsd", "rsqrt", "constant"]

_LEAST_ALPHA = 1e-6
"""Of a beta distribution; NumPy draws NaN from those that are far smaller."""
_DECIMAL = r"\d{1,3}(\.\d{1,9})?"
_SMALL = r"[1-9]\d?"
_POLICY = re.compile(
    rf"rand(-m\d\d?|-mmax{_SMALL}|-mstd{_DECIMAL}|-n{_SMALL}|-p[01](\.\d{{1,9}})?|-inc[01]"
    r"|-t(weights|3aw?))*"
    rf"|augmix(-m\d\d?|-mstd{_DECIMAL}|-w{_SMALL}|-d[1-9]|-a{_DECIMAL}|-b[01])*"
    rf"|(original|originalr|v0|v0r|3a)(-mstd{_DECIMAL})?",
    re.ASCII,
)
"""What timm's parser of policies reads. It passes over words that it does not know, or ends in an
assertion."""


class Together:
    """What the fields of a recipe say together. `Recipe` has the fields."""

    epochs: int
    warmup_epochs: float
    float_epochs: int
    activation_epochs: int
    hflip: float
    flip: str
    repeat_views: int
    distill: bool
    aa: str | None

    def __post_init__(self) -> None:
        """Checks what one field alone cannot show."""
        for low, high in (("t_min", "t_max"), ("tau_min", "tau_max")):
            if getattr(self, low) > getattr(self, high):
                raise UsageError(
                    f"`{low}`: expected at most `{high}` = {getattr(self, high)}, "
                    f"got {getattr(self, low)}"
                )
        self._check_epochs()
        if self.aa is not None and _POLICY.fullmatch(self.aa) is None:
            raise UsageError(
                "`aa`: expected timm's `rand`, `augmix`, `original`, `originalr`, `v0`, `v0r` or "
                "`3a` with its numbers behind, as in rand-m9-n2-mstd0.5 or augmix-m5-w4, got "
                f"{self.aa!r}"
            )
        if self.repeat_views:
            self._check_views()
        if self.flip == "alternating" and self.hflip != 0.5:
            raise UsageError(
                "`flip=`: `alternating` flips every image every second epoch, so expected `hflip` "
                f"0.5, got {self.hflip}"
            )
        for name in ("mixup", "cutmix"):
            if 0 < getattr(self, name) < _LEAST_ALPHA:
                raise UsageError(
                    f"`{name}`: expected 0, which is off, or {_LEAST_ALPHA} and more, "
                    f"got {getattr(self, name)}"
                )
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise UsageError(f"`{name}`: expected (lowest, highest), got ({low}, {high})")

    def _check_views(self) -> None:
        """What a batch changes, or answers hold, beside one image's own changes and logits."""
        for name in ("mixup", "cutmix", "reprob", "distill_blocks"):
            if getattr(self, name):
                raise UsageError(
                    f"`repeat_views`: expected `{name}` 0 beside it, got {getattr(self, name)}"
                )
        if not self.distill:
            raise UsageError(
                "`repeat_views`: expected a run that distills, whose teacher is then looked up; "
                "add `distill=True`, or leave it out"
            )
        if self.flip == "alternating" and self.repeat_views % 2:
            raise UsageError(
                "`repeat_views`: expected an even number beside `flip` alternating, got "
                f"{self.repeat_views}"
            )

    def _check_epochs(self) -> None:
        n_before = self.float_epochs + self.activation_epochs
        if n_before >= self.epochs:
            raise UsageError(
                "`float_epochs` and `activation_epochs`: expected less than `epochs` = "
                f"{self.epochs} together, got {n_before}"
            )
        stages = (self.float_epochs, self.activation_epochs, self.epochs - n_before)
        shortest = min(n for n in stages if n)
        if self.warmup_epochs >= shortest:
            what = f"the {shortest} of the shortest stage" if n_before else f"`epochs` = {shortest}"
            raise UsageError(
                f"`warmup_epochs`: expected less than {what}, got {self.warmup_epochs}"
            )
