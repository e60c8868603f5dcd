"""Draws docs/snowball.svg out of the cases of the snowball: requests a second over time, on a logarithmic scale."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from typing import Any

from bench import results

PAGE = Path(__file__).parent.parent / "docs" / "snowball.svg"
WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 190, 64, 66, 78
MOST = 2000.0
STYLE = """
text{font:13px system-ui,sans-serif;fill:#1f2328}.small{font-size:12px}.title{font-weight:600}
.axis{fill:none;stroke:#6e7781;stroke-width:1}.grid{stroke:#6e7781;stroke-opacity:.25}.bad{fill:#cf222e;fill-opacity:.09}
.limit{stroke:#6e7781;stroke-dasharray:5 4}.ours{fill:none;stroke:#0969da;stroke-width:2.2}
.alone{fill:none;stroke:#bc4c00;stroke-width:2.2}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.ours{stroke:#58a6ff}.alone{stroke:#f0883e}
.axis,.limit{stroke:#8b949e}.grid{stroke:#8b949e}.bad{fill:#f85149;fill-opacity:.16}}
"""


def plot(cases: list[dict[str, Any]]) -> None:
    """Write the picture: one panel for each kind of outage that has a control."""
    chosen = [
        (outage, [case for case in cases if case["outage"] == outage and case["engine"] == "sqlite"])
        for outage in dict.fromkeys(case["outage"] for case in cases if case["alone"])
    ]
    longest = max(len(case["per_second"]) for _, group in chosen for case in group)
    end = math.ceil(min(longest, 120) / 10) * 10
    height = TOP + len(chosen) * (HEIGHT + GAP) - 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {height}" role="img">',
        f"<title>Requests a second that reach a vault which is throttling or away</title><style>{STYLE}</style>",
        f'<path class="ours" d="M{LEFT} 20h30"/><text x="{LEFT + 38}" y="24">keyleaf</text>',
        f'<path class="alone" d="M{LEFT + 120} 20h30"/>'
        f'<text x="{LEFT + 158}" y="24">each activity calls the SDK</text>',
        f'<path class="limit" d="M{LEFT + 360} 20h30"/><text x="{LEFT + 398}" y="24">2 requests a second</text>',
        f'<rect class="bad" x="{LEFT + 560}" y="12" width="30" height="16"/>'
        f'<text x="{LEFT + 598}" y="24">the vault is bad</text>',
    ]
    for place, (outage, group) in enumerate(chosen):
        top = TOP + place * (HEIGHT + GAP)
        parts += _panel(outage, group, top, end)
    PAGE.write_text("\n".join([*parts, "</svg>", ""]))


def _panel(outage: str, group: list[dict[str, Any]], top: int, end: int) -> list[str]:
    def across(second: float) -> float:
        return LEFT + WIDTH * second / end

    def down(rate: float) -> float:
        """Logarithmic from 1 up; 0 has a place of its own below."""
        return top + HEIGHT - (18 + (HEIGHT - 18) * math.log10(rate) / math.log10(MOST) if rate >= 1 else 0)

    what = "answers 429" if outage == "429" else "closes every connection"
    about = f"1,000 instances, SQLite; the vault {what} for {group[0]['outage_seconds']:.0f} s"
    parts = [
        f'<text class="title" x="{LEFT}" y="{top - 10}">{escape(about)}</text>',
        f'<rect class="bad" x="{LEFT}" y="{top}" width="{across(group[0]["outage_seconds"]) - LEFT:.1f}"'
        f' height="{HEIGHT}"/>',
        f'<text class="small" transform="translate(14 {top + HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        "requests a second</text>",
        f'<text class="small" x="{LEFT + WIDTH / 2}" y="{top + HEIGHT + 36}" text-anchor="middle">'
        "seconds since the first instance started</text>",
    ]
    for rate in (0, 1, 10, 100, 1000):
        parts.append(f'<path class="grid" d="M{LEFT} {down(rate):.1f}H{LEFT + WIDTH}"/>')
        parts.append(f'<text class="small" x="{LEFT - 8}" y="{down(rate) + 4:.1f}" text-anchor="end">{rate:,}</text>')
    for second in range(0, end + 1, 10):
        x = across(second)
        parts.append(f'<text class="small" x="{x:.1f}" y="{top + HEIGHT + 18}" text-anchor="middle">{second}</text>')
    parts.append(f'<path class="limit" d="M{LEFT} {down(2):.1f}H{LEFT + WIDTH}"/>')
    parts.append(f'<path class="axis" d="M{LEFT} {top}V{top + HEIGHT}H{LEFT + WIDTH}"/>')
    for case in sorted(group, key=lambda each: not each["alone"]):
        counts = case["per_second"][:end]
        steps = "".join(f"V{down(count):.1f}H{across(second + 1):.1f}" for second, count in enumerate(counts))
        kind = "alone" if case["alone"] else "ours"
        parts.append(f'<path class="{kind}" d="M{LEFT} {down(0):.1f}{steps}"/>')
    return parts


def main() -> None:
    """Draw it again out of ``snowball.json``."""
    figures = results.read("snowball")
    if figures is None:
        raise SystemExit("not measured yet: python -m bench snowball")
    plot(figures["cases"])


if __name__ == "__main__":
    main()
