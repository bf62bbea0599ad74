"""Text from files and libraries, made safe to print to a terminal."""


def make_printable(text: str) -> str:
    """Return the text as one line, with ``?`` for each character that is not printable.

    The text may come from a file, and a control character could change the terminal.
    """
    one_line = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in one_line)
