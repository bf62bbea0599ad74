"""How commands print what they did not write themselves."""


def make_printable(text: str) -> str:
    """Return the text as one line, without control characters: it may come out of a file."""
    return "".join(each if each.isprintable() else "?" for each in " ".join(text.split()))
