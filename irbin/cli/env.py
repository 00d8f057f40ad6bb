"""`irbin env`: what a bug report needs to know of the machine."""

from __future__ import annotations

from irbin.cli.console import check_json_target, results, say, write_json
from irbin.cli.flags import flat
from irbin.cli.options import Json


@flat
def env(json_to: Json = None) -> None:
    """Show versions, processor, kernels, threads and memory, for a bug report.

    No name of a person, a machine or a folder is among it.
    """
    check_json_target(json_to)
    from irbin.environment import environment

    facts = environment()
    screen, width = results(json_to), max(map(len, facts))
    for name, value in facts.items():
        say(screen, f"{name:{width}}  {value}")
    write_json(facts, json_to)
