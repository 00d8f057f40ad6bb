"""What the teacher says of augmented images that come back: asked once, then looked up.

Where augmentation repeats every V epochs (`repeat_views`), a teacher that answers the same to the
same image has nothing new to say from epoch V on. Beyer et al., CVPR 2022, show that a teacher must
see the very views that its pupil sees; so it is views that are repeated, not answers shared.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from irbin.data.batches import Loader
from irbin.data.choice import in_words
from irbin.data.memory import free_bytes
from irbin.data.order import Indices
from irbin.data.sending import sent
from irbin.errors import UsageError
from irbin.files import write_file
from irbin.interrupt import interrupt_after
from irbin.messages import counted, first_line

FOLDER = "views"
"""Of a run folder: a file for each view."""

_LARGEST = torch.finfo(torch.float16).max
_log = logging.getLogger("irbin")


class TaughtViews:
    """The teacher's logits of every (view, image), float16, on the device; filled as they are met.

    An epoch leaves out images that make no whole step, so later rounds still find gaps: then the
    whole batch is asked, as compiled networks want it, and the gaps alone are filled. What was
    filled never changes, so a run that goes on computes what an uninterrupted one would have.

    Args:
        n_views: V; views are epochs mod V.
        n_images: in the training split.
        n_classes: logits of an image.
        device: where they are kept.

    Raises:
        UsageError: they do not fit into memory.
    """

    def __init__(self, n_views: int, n_images: int, n_classes: int, device: torch.device) -> None:
        n_bytes = 2 * n_views * n_images * n_classes
        room = free_bytes(device if device.type == "cuda" else None)
        if n_bytes > room:
            raise UsageError(
                f"`repeat_views`: expected room for {in_words(n_bytes)} of the teacher's answers, "
                f"got {in_words(room)}; take fewer views"
            )
        shape = (n_views, n_images, n_classes)
        self._logits = torch.zeros(shape, dtype=torch.float16, device=device)
        self._known = np.zeros(shape[:2], dtype=np.bool_)
        self._unsaved: set[int] = set()
        self._view, self._order = 0, iter(())  # type: tuple[int, Iterator[Indices]]
        self.why = (
            f"teacher: {counted(n_views, 'view')} of {counted(n_images, 'image')}, "
            f"{in_words(n_bytes)} of answers in "
            f"memory; from epoch {n_views + 1} on they are looked up"
        )
        """What is kept, in one sentence."""

    def enter(self, epoch: int, order: Iterator[Indices]) -> None:
        """Before the batches of an epoch.

        Args:
            epoch: counts from 0.
            order: which images its batches show, from the next one on.
        """
        self._view, self._order = epoch % len(self._known), order

    def answers(self, images: Tensor, ask: Callable[[Tensor], Tensor]) -> Tensor:
        """The teacher's logits of the next batch, (batch, n_classes) float16.

        Args:
            images: the batch, (batch, channels, height, width).
            ask: the teacher; called where some of them are new.
        """
        indices = next(self._order)
        known = self._known[self._view, indices]
        rows = sent(indices, self._logits.device)
        if not known.all():
            answers = ask(images)
            if answers.shape != (len(indices), self._logits.shape[2]):
                return answers  # the loop says what is wrong
            answers = answers.float().clamp(-_LARGEST, _LARGEST).to(torch.float16)
            gaps = sent(np.flatnonzero(~known), self._logits.device)
            self._logits[self._view, rows[gaps]] = answers[gaps]
            self._known[self._view, indices] = True
            self._unsaved.add(self._view)
        return self._logits[self._view, rows]

    def save(self, out: Path) -> None:
        """Writes the views that changed into a run folder, each file whole or not at all.

        Called before the weights are saved: answers that are ahead of them are what would be asked
        again, and answers that are missing might be asked in other company.
        """
        for view in sorted(self._unsaved):
            known = torch.from_numpy(self._known[view])
            tensors = {"logits": self._logits[view].cpu(), "known": known}
            (out / FOLDER).mkdir(exist_ok=True)
            write_file(out / FOLDER / f"{view}.safetensors", save(tensors))
            self._unsaved.remove(view)

    def load(self, out: Path) -> None:
        """Takes over what a run folder has; what is damaged is asked anew, and a note says so."""
        for view in range(len(self._known)):
            file = out / FOLDER / f"{view}.safetensors"
            if not file.exists():
                continue
            try:
                with interrupt_after():
                    tensors = load_file(file)
                self._logits[view].copy_(tensors["logits"])
                self._known[view] = tensors["known"].numpy()
            except (OSError, SafetensorError, KeyError, RuntimeError, ValueError) as error:
                _log.warning(
                    "cannot read %s (%s): the teacher is asked again, so what follows may differ "
                    "in the last digits",
                    file,
                    first_line(error),
                )


def taught_views(
    n_views: int, train: Loader, n_classes: int, device: torch.device, n_processes: int
) -> TaughtViews | None:
    """The table of a run; None where views do not repeat.

    Raises:
        UsageError: several processes, which see other images in every epoch; or no room.
    """
    if n_views == 0:
        return None
    if n_processes > 1:
        raise UsageError(
            f"`repeat_views`: expected one process, got {n_processes}: each sees other images in "
            "every epoch"
        )
    return TaughtViews(n_views, train.n_images, n_classes, device)
