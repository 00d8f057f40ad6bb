"""A data-set string and a folder in, loaders out, through timm.data: what the other rooms use."""

from irbin.data.batches import Images, Loader, Stream
from irbin.data.classes import check_classes, check_splits, class_names, n_classes
from irbin.data.datasets import open_dataset
from irbin.data.fingerprint import fingerprint
from irbin.data.images import Augmentation
from irbin.data.loaders import eval_loader, make_loaders, train_loader
from irbin.data.order import Feed
from irbin.data.shown import pixels_at

__all__ = [
    "Augmentation",
    "Feed",
    "Images",
    "Loader",
    "Stream",
    "check_classes",
    "check_splits",
    "class_names",
    "eval_loader",
    "fingerprint",
    "make_loaders",
    "n_classes",
    "open_dataset",
    "pixels_at",
    "train_loader",
]
