"""Every error that irbin raises on purpose, on one page.

    IrbinError
    ├── UsageError (ValueError)      an option or argument makes no sense            exit code 2
    ├── SourceError                  a network, checkpoint or folder cannot be read  exit code 1
    ├── TraceError                   the network's layers cannot be seen             exit code 1
    ├── PlanError (ValueError)       the rules give no sensible plan                 exit code 1
    ├── ConvertError                 the converted network does not run as planned   exit code 1
    ├── DataError                    the data set is missing, empty or damaged       exit code 1
    │   └── LostWorkerError          a process that reads images ended               exit code 1
    ├── TrainingError                training cannot start or go on                  exit code 1
    │   └── LostProcessError         another process of the run ended                exit code 1
    ├── LowerError                   the network cannot be written as a program      exit code 1
    │   └── MixedImagesError         its images do not stay apart                    exit code 1
    └── ArtifactError                a packed folder is not what the format says     exit code 1

A message is one line: what was expected, what came, what to do.
"""

from __future__ import annotations


class IrbinError(Exception):
    """Base of all; the command line prints the message alone and leaves with `exit_code`."""

    exit_code = 1


class UsageError(IrbinError, ValueError):
    """An option or an argument has a value that cannot be meant."""

    exit_code = 2


class SourceError(IrbinError):
    """A network, checkpoint or folder is missing, damaged, unsafe, or does not fit its model."""


class TraceError(IrbinError):
    """The layers of a network cannot be seen, so nothing can be planned."""


class PlanError(IrbinError, ValueError):
    """The rules contradict each other, match nothing, or leave nothing to binarize."""


class ConvertError(IrbinError):
    """The converted network does not run as the plan says it should."""


class DataError(IrbinError):
    """A data set is missing, empty, damaged, or has another number of classes."""


class LostWorkerError(DataError):
    """A process that reads images ended, so there are no more of them."""


class TrainingError(IrbinError):
    """Training cannot start, or cannot go on."""


class LostProcessError(TrainingError):
    """Another process of the run ended, so this one cannot go on."""


class LowerError(IrbinError):
    """A trained network holds something the program's vocabulary cannot say."""


class MixedImagesError(LowerError):
    """An image's result depends on the other images of its batch: trained, but never packed."""


class ArtifactError(IrbinError):
    """A packed folder is not what `docs/format.md` says it must be."""
