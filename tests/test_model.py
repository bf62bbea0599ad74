"""Whatever people do with images, tags and trash, the service is as a plain model of it says."""

import itertools
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

import pictures
from conftest import Service
from factories import HEADER, claims, signed
from imageapi.auth.claims import ABILITIES

TAGS = st.sampled_from(["a", "b", "ä", "NULL", "'\"\\{},"])
CONTENTS = [pictures.jpeg(width=16, height=16, seed=each) for each in range(4)]
NOBODY = "00000000-0000-4000-8000-000000000000"


@dataclass
class Picture:
    """An image as the model has it."""

    content: int
    tags: list[str] = field(default_factory=list)
    is_in_trash: bool = False
    version: int = 0


class Album(RuleBasedStateMachine):
    """One album, and the model of it; every change is one version."""

    client: httpx.Client
    addresses: Iterator[str]
    added = Bundle("added")

    def __init__(self) -> None:
        super().__init__()
        self.album = f"model-{uuid.uuid4()}"
        token = signed(HEADER, claims(self.album, *ABILITIES))
        self.headers = {"Authorization": f"Bearer {token}"}
        self.images = f"/api/v1/albums/{self.album}/images"
        self.model: dict[str, Picture] = {}
        self.version = 0

    def ask(self, method: str, path: str = "", **more: Any) -> httpx.Response:
        headers = {**self.headers, **more.pop("headers", {})}
        url = f"{next(self.addresses)}{self.images}{path}"
        return self.client.request(method, url, headers=headers, **more)

    def of_album(self, what: str) -> Any:
        url = f"{next(self.addresses)}/api/v1/albums/{self.album}/{what}"
        return self.client.get(url, headers=self.headers).json()

    def change(self, *pictures: Picture) -> None:
        self.version += 1
        for each in pictures:
            each.version = self.version

    @rule(target=added, content=st.sampled_from(range(4)))
    def add(self, content: int) -> str:
        answer = self.ask("POST", files={"file": ("a.jpg", CONTENTS[content])})
        there = [
            public_id
            for public_id, each in self.model.items()
            if each.content == content and not each.is_in_trash
        ]
        public_id: str = answer.json()["public_id"]
        if there:
            assert (answer.status_code, [public_id]) == (200, there)
        else:
            assert answer.status_code == 201
            self.model[public_id] = Picture(content)
            self.change(self.model[public_id])
        return public_id

    @rule(public_id=added, tag=TAGS)
    def tag(self, public_id: str, tag: str) -> None:
        answer = self.ask("PUT", f"/{public_id}/tags/{quoted(tag)}")
        if self.is_there(public_id, answer):
            each = self.model[public_id]
            if tag not in each.tags:
                each.tags.append(tag)
                self.change(each)

    @rule(public_id=added, tag=TAGS)
    def untag(self, public_id: str, tag: str) -> None:
        answer = self.ask("DELETE", f"/{public_id}/tags/{quoted(tag)}")
        if self.is_there(public_id, answer):
            each = self.model[public_id]
            if tag in each.tags:
                each.tags.remove(tag)
                self.change(each)

    @rule(
        public_ids=st.lists(added, min_size=1, max_size=4, unique=True),
        add=st.lists(TAGS, max_size=2, unique=True),
        remove=st.lists(TAGS, max_size=2, unique=True),
        with_nobody=st.booleans(),
    )
    def tag_many(
        self, public_ids: list[str], add: list[str], remove: list[str], with_nobody: bool
    ) -> None:
        asked = [*public_ids, NOBODY] if with_nobody else public_ids
        body = {"public_ids": asked, "add": add, "remove": remove}
        answer = self.ask("POST", "/tags", json=body)
        if set(add) & set(remove):
            assert answer.status_code == 422
            return
        if with_nobody or any(self.model[each].is_in_trash for each in public_ids):
            assert answer.status_code == 404
            return
        changed = []
        for each in (self.model[public_id] for public_id in public_ids):
            tags = [tag for tag in each.tags if tag not in remove]
            tags += [tag for tag in add if tag not in tags]
            if tags != each.tags:
                each.tags = tags
                changed.append(each)
        if changed:
            self.change(*changed)
        assert answer.json() == {"version": self.version, "images": len(changed)}

    @rule(public_id=added)
    def delete(self, public_id: str) -> None:
        answer = self.ask("DELETE", f"/{public_id}")
        each = self.model[public_id]
        if each.is_in_trash:
            assert answer.status_code in (204, 404)
            return
        assert answer.status_code == 204
        each.is_in_trash = True
        self.change(each)

    @rule(public_id=added)
    def restore(self, public_id: str) -> None:
        answer = self.ask("POST", f"/{public_id}/restore")
        each = self.model[public_id]
        same = [
            other
            for other in self.model.values()
            if other is not each and other.content == each.content and not other.is_in_trash
        ]
        if each.is_in_trash and same:
            assert answer.status_code == 409
            return
        assert answer.status_code == 200
        if each.is_in_trash:
            each.is_in_trash = False
            self.change(each)

    @rule(public_id=added, tag=TAGS, behind=st.integers(1, 3))
    def change_what_has_changed_since(self, public_id: str, tag: str, behind: int) -> None:
        each = self.model[public_id]
        stale = {"If-Match": f'"{each.version - behind}"'}
        answer = self.ask("PUT", f"/{public_id}/tags/{quoted(tag)}", headers=stale)
        assert answer.status_code == (404 if each.is_in_trash else 412)

    @rule(public_id=consumes(added))
    def forget(self, public_id: str) -> None:
        """Let it be as it is from now on."""

    def is_there(self, public_id: str, answer: httpx.Response) -> bool:
        is_there = not self.model[public_id].is_in_trash
        assert answer.status_code == (200 if is_there else 404)
        return is_there

    @invariant()
    def lists_are_those_of_the_model(self) -> None:
        there = {each: self.model[each] for each in self.model if not self.model[each].is_in_trash}
        listed = self.ask("GET").json()
        assert {
            each["public_id"]: [self.album, *there[each["public_id"]].tags] for each in listed
        } == {each["public_id"]: each["infos"]["tags"] for each in listed}
        assert {each["public_id"] for each in listed} == there.keys()
        queue = [each["public_id"] for each in self.ask("GET", "/untag").json()]
        assert queue == [each["public_id"] for each in listed if not there[each["public_id"]].tags]
        tags = Counter(itertools.chain.from_iterable(each.tags for each in there.values()))
        counted = self.of_album("tags")
        assert {each["tag"]: each["images"] for each in counted} == tags

    @invariant()
    def every_change_is_an_event(self) -> None:
        events = self.of_album("events")
        assert [event["version"] for event in events] == list(range(1, self.version + 1))
        self.check_versions(since=self.version)  # the others are as they were: see teardown

    def teardown(self) -> None:
        self.check_versions()

    def check_versions(self, since: int = 0) -> None:
        """Compare the versions of images that have changed since then."""
        for public_id, each in self.model.items():
            if each.version >= since and not each.is_in_trash:
                answer = self.ask("GET", f"/{public_id}")
                assert answer.headers["ETag"] == f'"{each.version}"'


def quoted(tag: str) -> str:
    return str(httpx.URL("http://a", params={"a": tag}).query, "ascii")[2:].replace("+", "%20")


@pytest.mark.every_way
def test_service_is_as_its_model(
    request: pytest.FixtureRequest, way: str, service: Service, replicas: list[Service]
) -> None:
    """Each request goes to another replica than the one before.

    `make test` takes fewer examples by other ways than the direct one, `make test-ways` as many.
    """
    is_short = way != "direct" and request.config.getoption("--through") is None
    addresses = itertools.cycle(each.address for each in replicas or [service])
    with httpx.Client(trust_env=False, timeout=60) as client:

        class OnService(Album):
            pass

        OnService.client, OnService.addresses = client, addresses
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            OnService,
            settings=settings(
                max_examples=5 if is_short else 20,
                stateful_step_count=30,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
