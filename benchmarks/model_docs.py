"""The tables of docs/models.md, from the cards of the registered networks."""

from __future__ import annotations

from inpaint_models import list_discriminators, list_models, model_card


def block() -> str:
    """One table of all networks, then options and decisions of each."""
    lines = [
        "| name | what it is | parameters | discriminator | reads holes |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for name in list_models():
        card = model_card(name)
        judge = "-"
        if name in list_discriminators():
            judge = f"{model_card(name, discriminator=True).parameters:,}"
        reads = "yes: paint them first" if card.blind else "never"
        lines.append(f"| `{name}` | {card.title} | {card.parameters:,} | {judge} | {reads} |")
    for name in list_models():
        card = model_card(name)
        lines += ["", f"### `{name}`", "", f"{card.paper}; {card.source}.", ""]
        lines += [f"- takes: {card.inputs}", f"- returns: {card.output}"]
        lines += [f"- `{option}`: {text}" for option, text in card.options.items()]
        lines += [f"- decided: {decision}" for decision in card.decisions]
    return "\n".join(lines)
