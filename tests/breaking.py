"""What of a new OpenAPI document breaks a client that was made from an older one.

What is sent may be asked less of, and what is answered may say more; never the other way round.
"""

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

SENT, ANSWERED = "sent", "answered"
_LOWEST = ("minimum", "minLength", "minItems")
_HIGHEST = ("maximum", "maxLength", "maxItems")


def breaking_changes(old: Json, new: Json) -> list[str]:
    """One line for each breaking change, which names where it is."""
    return list(dict.fromkeys(_Comparison(old, new).changes()))


def _operations(document: Json) -> dict[tuple[str, str], Json]:
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


class _Comparison:
    def __init__(self, old: Json, new: Json) -> None:
        self._old = old
        self._new = new

    def changes(self) -> Iterator[str]:
        olds, news = _operations(self._old), _operations(self._new)
        for (method, path), old in olds.items():
            where = f"{method} {path}"
            if (new := news.get((method, path))) is None:
                yield f"{where} is gone"
            else:
                yield from self._operation(where, old, new)

    def _operation(self, where: str, old: Json, new: Json) -> Iterator[str]:
        if old["operationId"] != new["operationId"]:
            yield f"{where} was {old['operationId']}, and is {new['operationId']}"
        if old["tags"] != new["tags"]:
            yield f"{where} has moved from {old['tags']} to {new['tags']}"
        if [each for each in old["security"] if each not in new["security"]]:
            yield f"{where} takes no {old['security']} any more"
        if new["security"] and not old["security"]:
            yield f"{where} asks for a token"
        yield from self._parameters(where, old, new)
        yield from self._body(where, old.get("requestBody"), new.get("requestBody"))
        yield from self._answers(where, old["responses"], new["responses"])

    def _parameters(self, where: str, old: Json, new: Json) -> Iterator[str]:
        olds, news = (
            {(each["in"], each["name"]): each for each in operation.get("parameters", [])}
            for operation in (old, new)
        )
        for (kind, name), parameter in olds.items():
            at = f"{where} {kind} {name}"
            if (now := news.get((kind, name))) is None:
                yield f"{at} is gone"
                continue
            if now.get("required", False) and not parameter.get("required", False):
                yield f"{at} is required"
            yield from self._schema(at, SENT, parameter["schema"], now["schema"])
        for (kind, name), parameter in news.items():
            if (kind, name) not in olds and parameter.get("required", False):
                yield f"{where} {kind} {name} is new and required"

    def _body(self, where: str, old: Json | None, new: Json | None) -> Iterator[str]:
        if new is None:
            if old is not None:
                yield f"{where} takes no body any more"
            return
        if old is None or (new.get("required") and not old.get("required")):
            yield f"{where} asks for a body"
            return
        yield from self._content(f"{where} body", SENT, old["content"], new["content"])

    def _answers(self, where: str, old: Json, new: Json) -> Iterator[str]:
        for status, reference in old.items():
            at = f"{where} {status}"
            if status not in new:
                yield f"{at} is gone"
                continue
            was = self._resolved(self._old, reference)
            now = self._resolved(self._new, new[status])
            for name in was.get("headers", {}):
                if name not in now.get("headers", {}):
                    yield f"{at} header {name} is gone"
            yield from self._content(at, ANSWERED, was.get("content", {}), now.get("content", {}))
        for status in new.keys() - old.keys():
            if status.startswith("2"):
                yield f"{where} {status} is new"

    def _content(self, where: str, way: str, old: Json, new: Json) -> Iterator[str]:
        for media_type, was in old.items():
            if media_type not in new:
                yield f"{where} {media_type} is gone"
            else:
                now = new[media_type]
                yield from self._schema(where, way, was["schema"], now["schema"])

    def _schema(self, where: str, way: str, old: Json, new: Json) -> Iterator[str]:
        if self._names(old) != self._names(new):
            yield f"{where} was {self._names(old)}, and is {self._names(new)}"
        old, new = self._resolved(self._old, old), self._resolved(self._new, new)
        narrow, wide = (old, new) if way == SENT else (new, old)
        if "anyOf" in old and "anyOf" in new and len(old["anyOf"]) == len(new["anyOf"]):
            for was, now in zip(old["anyOf"], new["anyOf"], strict=True):
                yield from self._schema(where, way, was, now)
        elif old.keys() & {"anyOf"} != new.keys() & {"anyOf"}:
            yield f"{where} is another choice"
        if not _values(narrow, "type") <= _values(wide, "type"):
            yield f"{where} was {old.get('type')}, and is {new.get('type')}"
        if "enum" in wide and not ("enum" in narrow and set(narrow["enum"]) <= set(wide["enum"])):
            yield f"{where} has other values: {new.get('enum')}"
        yield from _limits(where, narrow, wide, new)
        yield from self._members(where, way, old, new)

    def _members(self, where: str, way: str, old: Json, new: Json) -> Iterator[str]:
        asked = set(new.get("required", ())), set(old.get("required", ()))
        more = asked[0] - asked[1] if way == SENT else asked[1] - asked[0]
        for name in sorted(more):
            is_known = name in old.get("properties", {})
            if way == SENT or is_known:
                yield f"{where}.{name} is {'required' if way == SENT else 'optional'}"
        for name, was in old.get("properties", {}).items():
            if name not in new.get("properties", {}):
                yield f"{where}.{name} is gone"
            else:
                yield from self._schema(f"{where}.{name}", way, was, new["properties"][name])
        is_closed = new.get("additionalProperties") is False
        if way == SENT and is_closed and old.get("additionalProperties", True) is True:
            yield f"{where} is closed to further keys"
        for name in ("items", "additionalProperties"):
            if isinstance(old.get(name), dict) and isinstance(new.get(name), dict):
                yield from self._schema(f"{where}[]", way, old[name], new[name])

    @staticmethod
    def _names(schema: Json) -> str:
        """What clients call the type."""
        return str(schema.get("$ref", "unnamed")).rpartition("/")[2]

    @staticmethod
    def _resolved(document: Json, value: Json) -> Json:
        if "$ref" not in value:
            return value
        for part in value["$ref"].split("/")[1:]:
            document = document[part]
        return document


def _limits(where: str, narrow: Json, wide: Json, new: Json) -> Iterator[str]:
    """What the wide one does not allow of the narrow one's values."""
    for name in ("format", "pattern"):
        if name in wide and narrow.get(name) != wide[name]:
            yield f"{where} has another {name}: {new.get(name)}"
    for names, sign in ((_LOWEST, 1), (_HIGHEST, -1)):
        for name in names:
            if name in wide and (name not in narrow or sign * narrow[name] < sign * wide[name]):
                yield f"{where} has another {name}: {new.get(name)}"


def _values(schema: Json, name: str) -> set[str]:
    value = schema.get(name, [])
    return {value} if isinstance(value, str) else set(value)
