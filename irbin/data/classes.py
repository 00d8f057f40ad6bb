"""The classes of a data set: their names and number, held against a network's and another split's.

timm numbers a folder's classes by what it finds there; what does not fit is an error here, which
names the class.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from irbin.data.batches import Images, Stream
from irbin.errors import DataError
from irbin.messages import counted
from irbin.records.options import SourceRecord

_log = logging.getLogger("irbin")


def class_names(dataset: Images | Stream) -> tuple[str, ...] | None:
    """Names in the order of the labels; None where the data set does not know them or has gaps."""
    listed = getattr(dataset.base, "classes", None)
    if listed is not None:
        return tuple(str(name) for name in listed)
    reader = getattr(dataset.base, "reader", None)
    # timm's tar readers spell it differently
    mapping = getattr(reader, "class_to_idx", None) or getattr(reader, "class_name_to_idx", None)
    if not mapping:
        return None
    names = {index: str(name) for name, index in mapping.items()}
    if sorted(names) != list(range(len(names))):
        return None
    return tuple(names[index] for index in range(len(names)))


def n_classes(dataset: Images | Stream) -> int | None:
    """How many classes the data set has, None where it does not know."""
    names = class_names(dataset)
    return None if names is None else len(names)


def check_classes(source: SourceRecord, dataset: Images | Stream, by_map: bool = False) -> None:
    """Compares the data set's classes with the network's: how many, and their names where known.

    Args:
        source: of the network.
        dataset: with labels.
        by_map: the user numbered the classes, so that other names are meant.

    Raises:
        DataError: another number, the same names in another order, or other classes.
    """
    names, expected = class_names(dataset), source.num_classes
    if names is None:
        return
    if len(names) < expected:
        _tell_missing(source, names, dataset.place)
    if len(names) != expected:
        raise DataError(
            f"expected {counted(expected, 'class')}, one an output of the network, got "
            f"{len(names)} in {dataset.place}, {_some(names)}: another data set, or a network made "
            f"with `num_classes={len(names)}`"
        )
    if source.class_names is not None:
        _compare_names(source, names, dataset.place, by_map)
    elif source.trained and not by_map:
        _tell_order(names, dataset)


def _tell_missing(source: SourceRecord, names: tuple[str, ...], place: str) -> None:
    """Refuses a folder that has some of the network's classes and no other: it shows them all."""
    known = source.class_names or ()
    theirs = {_plain(name) for name in names}
    if not theirs < {_plain(name) for name in known}:
        return
    missing = [name for name in known if _plain(name) not in theirs]
    raise DataError(
        f"expected images of the {counted(len(known), 'class')} that the network knows, got none "
        f"of {_some(missing)} in {place}; `class_map=` with a file that has all names, a line "
        "each in the network's order, evaluates the others"
    )


def _compare_names(source: SourceRecord, names: tuple[str, ...], place: str, by_map: bool) -> None:
    """Refuses other classes; names that publishers write for people only where some are equal."""
    known = source.class_names or ()
    ours, theirs = [_plain(name) for name in known], [_plain(name) for name in names]
    if ours == theirs:
        return
    if sorted(ours) == sorted(theirs):
        first = next(i for i, name in enumerate(ours) if name != theirs[i])
        raise DataError(
            f"expected the classes of {place} in the order that the network learned, got "
            f"`{names[first]}` as number {first} in the place of `{known[first]}`; `class_map=` "
            "fixes their numbers"
        )
    if not set(ours) & set(theirs) and (source.published_names or by_map):
        _log.warning(
            "%s calls its classes %s, %s calls them %s: equal numbers are taken for equal classes",
            source.spec,
            _some(known),
            place,
            _some(names),
        )
        return
    odd = [name for name, plain in zip(names, theirs, strict=True) if plain not in ours]
    raise DataError(
        f"expected the classes that `{source.spec}` was trained on ({_some(known)}), got "
        f"{_some(odd)} in {place}: another data set, or the same classes under other names; then "
        "`class_map=` with these names in the network's order says so"
    )


def _tell_order(names: tuple[str, ...], dataset: Images | Stream) -> None:
    """Says so where torchvision would number a folder's classes otherwise, and nobody says how."""
    by_torchvision = tuple(sorted(names))
    if not hasattr(dataset.base, "classes") and names != by_torchvision:
        first = next(i for i, name in enumerate(names) if name != by_torchvision[i])
        _log.warning(
            "%s: class %d is `%s`, as timm counts folders; torchvision's ImageFolder has `%s` "
            "there, and the network does not say; `class_map=` fixes their numbers",
            dataset.place,
            first,
            names[first],
            by_torchvision[first],
        )


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _some(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names[:_N_NAMES]) + " …" * (len(names) > _N_NAMES)


_N_NAMES = 3
"""Classes that a message names."""


def check_splits(
    source: SourceRecord, training: Images | Stream, validation: Images | Stream, *, by_map: bool
) -> None:
    """Compares the classes of two splits with a network's and with each other.

    Args:
        source: of the network.
        training: the split to train on.
        validation: the one to evaluate on.
        by_map: as `check_classes` takes it.

    Raises:
        DataError: other classes than the network's, or one has a class that the other lacks.
    """
    check_classes(source, training, by_map)
    _check_same_classes(training, validation)  # before the second one's number: it says why
    check_classes(source, validation, by_map)


def _check_same_classes(training: Images | Stream, validation: Images | Stream) -> None:
    """Compares the classes of two splits: timm numbers a folder's classes by what it finds there.

    Raises:
        DataError: one has a class that the other lacks.
    """
    left, right = class_names(training), class_names(validation)
    if left is None or right is None or left == right:
        return
    odd = sorted(set(left) ^ set(right)) or sorted(set(left))
    named = ", ".join(f"`{name}`" for name in odd[:5])
    raise DataError(
        f"expected the same classes in {training.place} and {validation.place}, but {named} "
        f"{'is' if len(odd) == 1 else 'are'} not in both; `class_map=` fixes their numbers"
    )
