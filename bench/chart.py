"""The table as a chart: each row a group of bars, in units of crun's; what is asked of ocirt is a mark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from svg import Drawing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from figures import Row

COLORS = {
    "ocirt": "#1f6f8b",
    "crun": "#e0a458",
    "runc": "#c1666b",
    "crun-sid": "#ecc998",
    "runc-sid": "#dca3a6",
    "floor": "#9aa5a8",
}
WIDTH, LEFT, RIGHT, BAR, GAP = 860, 230, 120, 11, 12
FAR = 5.0
"""Bars end here, in crun's times; how much longer they are is beside them."""


def draw(rows: Mapping[str, Row], versions: Mapping[str, str], circumstances: str) -> str:
    drawing = Drawing(WIDTH)
    drawing.words(12, 24, "Times of ocirt, crun and runc, in units of crun's", size=15)
    drawing.words(WIDTH - 12, 24, circumstances, size=11, anchor="end", color="#555")
    scale = (WIDTH - LEFT - RIGHT) / FAR
    y = _legend(drawing, versions, {name for row in rows.values() for name in row.values})
    compared = [row for row in rows.values() if "crun" in row.values]
    bottom = y + sum(len(row.values) * BAR + GAP for row in compared)
    for times in range(int(FAR) + 1):
        x = LEFT + times * scale
        drawing.line(x, y - 4, x, bottom - GAP + 4, "#ccc" if times else "#555", 0.7)
        drawing.words(x, bottom + 8, f"{times}", size=10, anchor="middle", color="#555")
    for row in compared:
        base = row.median("crun")
        drawing.words(LEFT - 8, y + (len(row.values) * BAR) / 2 + 4, row.title.strip(), anchor="end")
        for name in row.values:
            value = row.median(name)
            width = min(value / base, FAR) * scale
            drawing.box(LEFT, y, width, BAR - 1, COLORS.get(name, "#888"))
            if name == "ocirt" and "crun" in row.most:
                most = row.most["crun"] * scale
                drawing.line(LEFT + most, y - 3, LEFT + most, y + BAR + 1, "#111", 2)
                width = max(width, most)
            amount = f"{value:.1f} ms" if row.unit == "ms" else f"{value:.0f} {row.unit}"
            more = f" ({value / base:.1f} ×)" if value / base > FAR else ""
            drawing.words(LEFT + width + 5, y + BAR - 2, amount + more, size=10, color="#444")
            y += BAR
        y += GAP
    return drawing.document(y + 18)


def _legend(drawing: Drawing, versions: Mapping[str, str], shown: set[str]) -> int:
    x, y = 12, 46
    for name, color in COLORS.items():
        if name in shown:
            text = f"{name.removesuffix('-sid')} {versions.get(name, '')}".strip()
            drawing.box(x, y - 9, 10, 10, color)
            drawing.words(x + 14, y, text, size=11)
            x += 34 + 7 * len(text)
    drawing.line(x + 2, y - 10, x + 2, y + 2, "#111", 2)
    drawing.words(x + 8, y, "asked for, at most", size=11)
    return y + 22
