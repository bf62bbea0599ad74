"""Draw the picture in the README: the documented request and the response of a running service.

python scripts/picture_answer.py ADDRESS TOKEN > docs/static/answer.svg
"""

import io
import sys

import httpx
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

PATH = "/api/v1/albums/00324000005TXjIAAW/images/untag"
COLUMNS = 88

#: rich's own format without its fonts, which browsers would load from another host.
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font: {char_height}px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  line-height: {line_height}px;
}}
.{unique_id}-title {{ font: 18px system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def draw(response_text: str) -> str:
    """Return an SVG of a terminal with the request and the response."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text('$ curl -H "Authorization: Token token=\\"$TOKEN\\"" \\', style="bold"))
    console.print(Text(f"    http://127.0.0.1:8000{PATH}", style="bold"))
    console.print(JSONHighlighter()(response_text), overflow="fold", soft_wrap=False)
    return console.export_svg(
        title="The images that nobody has tagged yet",
        code_format=FORMAT,
        theme=DIMMED_MONOKAI,
        unique_id="answer",
    )


def main(address: str, token: str) -> None:
    """Request the queue, and write the SVG to the standard output."""
    headers = {"Authorization": f'Token token="{token}"'}
    response = httpx.get(address + PATH, headers=headers).raise_for_status()
    sys.stdout.write(draw(response.text))


if __name__ == "__main__":
    main(*sys.argv[1:])
