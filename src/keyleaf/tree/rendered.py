"""What became of one source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from keyleaf.core.finding import Finding
from keyleaf.tree.objects import Object

ToolName = Literal["directory", "kustomize", "helm", "plugin", "none"]
State = Literal["rendered", "not-rendered", "unresolved", "dynamic", "remote"]


@dataclass(frozen=True, slots=True)
class Rendered:
    """Objects of a source; where it could not be rendered, ``state`` and ``reason`` say so."""

    tool: ToolName
    objects: Sequence[Object] = ()
    findings: Sequence[Finding] = field(default=())
    state: State = "rendered"
    reason: str = ""
