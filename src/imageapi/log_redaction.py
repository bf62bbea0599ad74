"""Removes secrets and addresses of the settings from log lines, whoever writes them.

The lines of this program hold none. But libraries quote the URLs that they were given, and texts
of exceptions quote them too.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from structlog.typing import EventDict

#: What stands in place of a removed text.
REMOVED = "[removed]"
#: Shorter texts, and hosts without a dot, may be words of any line.
_MIN_CHARACTERS = 6
#: A host with a dot, or an address of IPv6, but not of this machine.
_NAMED_HOST = re.compile(r"(?!127\.|\[::1\]|/)[^/]*\.|\[")
#: A value in the query of a URL is hidden if its name is such a one, or if it is so long.
_SECRET_PARAMETER = re.compile(r"key|token|secret|pass|sig|auth|code|user|account", re.IGNORECASE)
_LONG_VALUE_CHARACTERS = 16
#: Variables of the environment that stores, tracing and proxies read, and whether they are URLs.
_SECRET_VARIABLE = re.compile(
    r"(?:AWS|AZURE|GOOGLE|OTEL|PG)_?\w*(?:KEY|SECRET|TOKEN|PASSWORD|PASSFILE|HEADERS)\w*"
)
_URL_VARIABLE = re.compile(r"(?:AWS|AZURE|GOOGLE|OTEL)_\w*ENDPOINT\w*|\w+_PROXY", re.IGNORECASE)

# As logging itself, these are of the whole process.
_hidden: set[str] = set()
_pattern: re.Pattern[str] | None = None


def hide_in_logs(secrets: Iterable[str], urls: Iterable[str] = ()) -> None:
    """Remove these texts from all log lines of this process from now on, beside those before.

    Of each URL that is itself, its user with the password, its host and its query.
    """
    global _pattern  # noqa: PLW0603
    texts = (*secrets, *(part for url in urls for part in _split_url(url)))
    _hidden.update(text for text in texts if len(text) >= _MIN_CHARACTERS)
    longest_first = sorted(_hidden, key=len, reverse=True)
    _pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def hide_environment_in_logs(environment: Mapping[str, str]) -> None:
    """Remove the secrets and URLs that libraries read from the environment."""
    variables = environment.items()
    hide_in_logs(
        (value for name, value in variables if _SECRET_VARIABLE.fullmatch(name)),
        (value for name, value in variables if _URL_VARIABLE.fullmatch(name)),
    )


def remove_hidden_texts(_: object, __: str, event: EventDict) -> EventDict:
    """Replace hidden texts in all values of a line; a processor of structlog."""
    if _pattern is None:
        return event
    return {name: _remove(value, _pattern) for name, value in event.items()}


def _remove(value: object, pattern: re.Pattern[str]) -> object:
    if isinstance(value, str):
        return pattern.sub(REMOVED, value)
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return pattern.sub(REMOVED, text) if pattern.search(text) else value


def _split_url(url: str) -> Iterator[str]:
    """Yield the parts of a URL that say where something is or how to get in."""
    try:
        parts = urlsplit(url)
    except ValueError:
        yield url
        return
    user_info, at, hosts = parts.netloc.rpartition("@")
    password = user_info.partition(":")[2]
    yield from (url, user_info, password, unquote(password), parts.query)
    for name, value in parse_qsl(parts.query):
        if name.startswith("host"):  # of PostgreSQL
            hosts += f",{value}"
        if _SECRET_PARAMETER.search(name) or len(value) >= _LONG_VALUE_CHARACTERS:
            yield from (value, quote(value), quote_plus(value))
    if at:
        yield from (parts.netloc, url.replace(f"{user_info}@", ""))
    for host in hosts.split(","):
        if _NAMED_HOST.match(host):
            yield from (host, re.sub(r":\d*$", "", host))
