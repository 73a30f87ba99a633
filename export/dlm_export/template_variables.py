"""The variables that a chat template is written for, put in front of it.

Hugging Face renders templates with the tokenizer's special tokens as variables (`bos_token`, ...) and with `tools` and `documents`. The
runtime gives none of them, so those that a template reads are set at its head: the template in a bundle stands on its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from jinja2 import Environment, TemplateError, nodes

Value = str | bool | None


def with_variables(template: str, variables: Mapping[str, Value]) -> str:
    """`template` behind a `set` for each of `variables` that it reads; unchanged where it reads none or cannot be parsed.

    The line ends behind the `set` tags are dropped in rendering, by the `trim_blocks` that chat templates are rendered with.
    """
    read = names_read(template)
    lines = [f"{{% set {name} = {literal(value)} %}}\n" for name, value in variables.items() if name in read]
    return "".join(lines) + template


def names_read(template: str) -> set[str]:
    """Names that a template reads. It is parsed only: compiling would work out constant expressions, however large they come out."""
    try:
        tree = Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False).parse(template)
        return {node.name for node in tree.find_all(nodes.Name) if node.ctx == "load"}
    except (TemplateError, RecursionError):
        return set()


def literal(value: Value) -> str:
    """A value as jinja2 spells it. Its text literals know the escapes of JSON, but no pairs of surrogates."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else {True: "true", False: "false", None: "none"}[value]
