"""Charts as SVG, for a page or a README."""

from collections.abc import Collection, Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, BAR, GAP, LEFT, RIGHT, TOP = 720, 24, 10, 180, 110, 46
FONT = "font-family='system-ui, sans-serif' font-size='13'"
OURS, OTHERS = "#2563eb", "#9aa5b1"
#: Of lines, in their order.
COLOURS = (OURS, "#d97706", "#059669", "#db2777", "#7c3aed", "#475569")
PLOT = 300


def bars(title: str, values: Mapping[str, float], others: Collection[str] = ()) -> str:
    """One horizontal bar for each value, in their order, with its name and figure; `others` in grey."""
    largest = max(values.values(), default=1.0) or 1.0
    height = TOP + len(values) * (BAR + GAP) + GAP
    parts = _opened(title, height)
    for place, (name, value) in enumerate(values.items()):
        y, long = TOP + place * (BAR + GAP), (WIDTH - LEFT - RIGHT) * value / largest
        colour = OTHERS if name in others else OURS
        parts += [
            f"<text x='{LEFT - 8}' y='{y + 17}' {FONT} text-anchor='end'>{escape(name)}</text>",
            f"<rect x='{LEFT}' y='{y}' width='{long:.1f}' height='{BAR}' rx='3' fill='{colour}'/>",
            f"<text x='{LEFT + long + 6:.1f}' y='{y + 17}' {FONT}>{figure(value)}</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])


def lines(title: str, across: str, values: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """One line for each series of points (x, y), from zero; x is spread evenly over its values, which may span decades."""
    places = sorted({x for points in values.values() for x, _ in points})
    largest = max((y for points in values.values() for _, y in points), default=1.0) or 1.0
    bottom, wide = TOP + PLOT, WIDTH - LEFT - RIGHT
    at = {x: LEFT + wide * place / max(len(places) - 1, 1) for place, x in enumerate(places)}
    parts = _opened(title, bottom + 60)
    for part in range(5):
        y = bottom - PLOT * part / 4
        parts += [
            f"<line x1='{LEFT}' x2='{LEFT + wide}' y1='{y:.1f}' y2='{y:.1f}' stroke='#e5e7eb'/>",
            f"<text x='{LEFT - 8}' y='{y + 4:.1f}' {FONT} text-anchor='end'>{figure(largest * part / 4)}</text>",
        ]
    parts += [f"<text x='{at[x]:.1f}' y='{bottom + 20}' {FONT} text-anchor='middle'>{figure(x)}</text>" for x in places]
    parts.append(f"<text x='{LEFT + wide / 2:.1f}' y='{bottom + 44}' {FONT} text-anchor='middle'>{escape(across)}</text>")
    for colour, (name, points) in zip(COLOURS * len(values), values.items(), strict=False):
        spots = [(at[x], bottom - PLOT * y / largest) for x, y in points]
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f"<polyline points='{drawn}' fill='none' stroke='{colour}' stroke-width='2'/>")
        parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{colour}'/>" for x, y in spots]
        if spots:
            x, y = spots[-1]
            parts.append(f"<text x='{x + 8:.1f}' y='{y + 4:.1f}' {FONT} fill='{colour}'>{escape(name)}</text>")
    return "\n".join([*parts, "</svg>", ""])


def figure(value: float) -> str:
    """A number as short as it can be read."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _opened(title: str, height: float) -> list[str]:
    return [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}' role='img'>",
        f"<title>{escape(title)}</title><rect width='100%' height='100%' fill='#ffffff'/>",
        f"<text x='{GAP}' y='28' {FONT} font-weight='600'>{escape(title)}</text>",
    ]
