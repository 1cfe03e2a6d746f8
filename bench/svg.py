"""As much of SVG as the charts need: boxes, lines and words, and about how wide words are."""

from __future__ import annotations

from xml.sax.saxutils import escape

WIDE = 0.6
"""Of a letter, in its size: more than it is in common fonts."""


class Drawing:
    def __init__(self, width: int) -> None:
        self.width = width
        self.parts: list[str] = []

    def box(self, x: float, y: float, width: float, height: float, color: str, title: str = "") -> None:
        hint = f"<title>{escape(title)}</title>" if title else ""
        place = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.2):.1f}" height="{height:.1f}"'
        self.parts.append(f'<rect {place} fill="{color}">{hint}</rect>' if hint else f'<rect {place} fill="{color}"/>')

    def line(self, x1: float, y1: float, x2: float, y2: float, color: str, width: float = 1) -> None:
        place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        self.parts.append(f'<line {place} stroke="{color}" stroke-width="{width:g}"/>')

    def words(
        self, x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", color: str = "#222"
    ) -> None:
        place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{color}"'
        self.parts.append(f"<text {place}>{escape(text)}</text>")

    def document(self, height: float) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {height:.0f}" width="{self.width}"'
            f' height="{height:.0f}" font-family="DejaVu Sans, Verdana, sans-serif">'
        )
        return "\n".join(
            [head, f'<rect width="{self.width}" height="{height:.0f}" fill="#fff"/>', *self.parts, "</svg>\n"]
        )
