"""A bar chart as SVG: groups of bars, each bar with its value."""

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _BAR, _GAP, _GROUP = 720, 150, 16, 4, 30  # pixels
_OURS, _OTHERS, _BEST = "#0a7d5a", "#9aa5b1", "#c9d6cf"


def write_bars(
    file: Path, title: str, unit: str, groups: Mapping[str, Mapping[str, float]], *, ours: tuple[str, ...]
) -> None:
    """Write horizontal bars, one group below the other, each group on its own scale."""
    parts, y = [_text(12, 22, title, weight="bold")], 40
    for name, bars in groups.items():
        parts.append(_text(12, y + 16, name, weight="bold"))
        y += _GROUP
        scale = (_WIDTH - _LEFT - 80) / max(bars.values())
        for label, value in bars.items():
            colour = _OURS if label in ours else _BEST if label == "oracle" else _OTHERS
            length = value * scale
            parts.append(_text(_LEFT - 8, y + 12, label, anchor="end"))
            box = f'x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR}" rx="2"'
            parts.append(f'<rect {box} fill="{colour}"/>')
            parts.append(_text(_LEFT + length + 6, y + 12, f"{value:.1f} {unit}"))
            y += _BAR + _GAP
        y += 10
    frame = f'viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" height="{y}"'
    style = 'font-family="system-ui, sans-serif" font-size="13"'
    background = f'<rect width="{_WIDTH}" height="{y}" fill="#ffffff"/>'
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" {frame} {style}>', background, *parts, "</svg>"]
    file.write_text("\n".join(svg) + "\n", encoding="utf-8")


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    attributes = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text {attributes} fill="#1f2933">{escape(text)}</text>'
