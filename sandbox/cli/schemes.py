"""`rmapbox schemes`: the reverse-mapping schemes that can be named, each with its card."""

from __future__ import annotations

from sandbox.cli.arguments import Parser


def card_lines(card) -> list[str]:
    """A scheme's card (`mmcore.rmap.scheme.Card`) as the lines of the listing."""
    lines = [f"{card.name}: {card.title}"]
    for label, text in (("kernels", card.kernels), ("origin", card.origin), ("complexity", card.complexity),
                        ("file index", card.file_index)):
        lines.append(f"    {label:<12}{text}")
    for name, size, remark in card.structures:
        lines.append(f"    {'structure':<12}{name}, {size}{': ' + remark if remark else ''}")
    for name, (default, meaning) in card.options.items():
        shown = str(default).lower() if isinstance(default, bool) else default
        lines.append(f"    {'option':<12}{name} = {shown}: {meaning}")
    for reference in card.references:
        lines.append(f"    {'see':<12}{reference}")
    return lines


def main(words: list[str]) -> int:
    """List the schemes with their cards: where each comes from, what it stores, what it costs."""
    Parser(prog="rmapbox schemes", description="List the reverse-mapping schemes: where each comes from, what it stores, what it costs."
           ).parse_args(words)
    from mmcore.rmap.registry import load_scheme, scheme_names

    for name in scheme_names():
        print("\n".join(card_lines(load_scheme(name).card)))
    return 0
