"""What a package index shows of README.md: the same text, where relative links are plain text, for they lead nowhere
there."""

from __future__ import annotations

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface


def long_description(readme: str) -> str:
    """`readme` with `[text](docs/page.md)` as `text` and without comments; links to other hosts stay."""
    plain = re.sub(r"\[([^\]]*)\]\((?!https?://)[^)\s]*\)", r"\1", readme)
    return re.sub(r"<!--.*?-->\n?", "", plain, flags=re.DOTALL)


class CustomMetadataHook(MetadataHookInterface):
    """Fill in the readme of the distribution."""

    def update(self, metadata: dict[str, object]) -> None:
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": long_description(text)}
