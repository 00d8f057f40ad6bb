"""Where pickles of earlier versions look for the classes of a converted network.

`torch.save` of a whole module stores the place of every class. Once these lay in `irbin.network`;
unpickling imports this file, and finds them where they lie now.
"""

from __future__ import annotations

import sys

from irbin.rewriting import further, installed, shortcuts
from irbin.sources import paper

for _module in (further, installed, shortcuts, paper):
    sys.modules[f"{__name__}.{_module.__name__.rpartition('.')[2]}"] = _module
