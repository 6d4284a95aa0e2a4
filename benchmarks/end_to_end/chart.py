"""A bar chart as SVG, for a page or a README."""

from collections.abc import Mapping
from xml.sax.saxutils import escape

WIDTH, BAR, GAP, LEFT, RIGHT, TOP = 720, 24, 10, 120, 110, 46
FONT = "font-family='system-ui, sans-serif' font-size='13'"


def bars(title: str, values: Mapping[str, float]) -> str:
    """One horizontal bar for each value, in their order, with its name and figure."""
    largest = max(values.values(), default=1.0) or 1.0
    height = TOP + len(values) * (BAR + GAP) + GAP
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}' role='img'>",
        f"<title>{escape(title)}</title><rect width='100%' height='100%' fill='#ffffff'/>",
        f"<text x='{GAP}' y='28' {FONT} font-weight='600'>{escape(title)}</text>",
    ]
    for place, (name, value) in enumerate(values.items()):
        y, long = TOP + place * (BAR + GAP), (WIDTH - LEFT - RIGHT) * value / largest
        colour = "#9aa5b1" if name.startswith(("psql", "by hand")) else "#2563eb"
        parts += [
            f"<text x='{LEFT - 8}' y='{y + 17}' {FONT} text-anchor='end'>{escape(name)}</text>",
            f"<rect x='{LEFT}' y='{y}' width='{long:.1f}' height='{BAR}' rx='3' fill='{colour}'/>",
            f"<text x='{LEFT + long + 6:.1f}' y='{y + 17}' {FONT}>{value:,.0f}</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])
