"""What the site has beside docs/*.md: its front page, the changes, the names in Python; and links.

MkDocs calls the functions `on_…` by their names (mkdocs.yml, `hooks`). A page is written to be
read in the repository; here a link to what the site has not leads there.
"""

from __future__ import annotations

import os.path
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

import irbin

ROOT = Path(__file__).parents[2]
TWINS = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
"""Pages of the site by the file of the repository whose text they show."""
_CODE = re.compile(r"(^```.*?^```|`[^`\n]*`)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that no file of docs/ holds."""
    for source, page in TWINS.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    files.append(File.generated(config, "api.md", content=names_in_python()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turns links to where their target is on the site, or in the repository."""
    source = {twin: name for name, twin in TWINS.items()}.get(page.file.src_uri)
    here = source or f"docs/{page.file.src_uri}"
    known = {file.src_uri for file in files if not file.inclusion.is_excluded()}

    def turned(link: re.Match[str]) -> str:
        return target(link[1], here, known, config.repo_url)

    parts = _CODE.split(markdown)
    return "".join(part if i % 2 else _LINK.sub(turned, part) for i, part in enumerate(parts))


def target(link: str, here: str, known: set[str], repository: str) -> str:
    """Where a relative link leads on the site.

    Args:
        link: as it stands in the file, without its anchor.
        here: the file, a path in the repository.
        known: the site's pages and pictures, paths in docs/.
        repository: its address.
    """
    path = os.path.normpath(Path(here).parent / link)
    at = TWINS.get(path, path.removeprefix("docs/"))
    if at in known:
        return at
    if (ROOT / path).exists():
        return f"{repository.rstrip('/')}/blob/main/{path}"
    return link  # which MkDocs then complains about


def names_in_python() -> str:
    """The page of all public names, from their docstrings."""
    names = [name for name in irbin.__all__ if name in irbin._HOME]
    functions = [name for name in names if name[0].islower()]
    classes = [name for name in names if name[0].isupper()]
    head = "What `import irbin` gives. [The verbs in Python](python.md) shows them at work."
    shown = "".join(
        f"\n::: {irbin._HOME[name]}.{name}\n    options: {{heading: irbin.{name}}}\n"
        for name in functions + classes
    )
    return f"# Names in Python\n\n{head}\n{shown}"
