"""Requirements such as `torch>=2.13,<2.14`, and whether an installed version satisfies them.

The part of PEP 440 and PEP 508 that the toolchains' own tables use: names and version ranges,
no markers, extras or URLs. `packaging` does all of it, but the core would need one more package
and 20 ms for it at every start.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgepipe.errors import InternalError

_VERSION = re.compile(
    r"v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)"
    r"(?:[-_.]?(?P<pre>alpha|beta|preview|pre|rc|a|b|c)[-_.]?(?P<pre_n>\d*))?"
    r"(?:-(?P<post_bare>\d+)|[-_.]?(?P<post>post|rev|r)[-_.]?(?P<post_n>\d*))?"
    r"(?:[-_.]?(?P<dev>dev)[-_.]?(?P<dev_n>\d*))?"
    r"(?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?",
    re.IGNORECASE,
)
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*?)\s*(?P<range>(?:[<>=!~].*)?)")
_SPECIFIER = re.compile(r"(?P<operator>==|!=|>=|<=|~=|>|<)\s*(?P<version>[^\s,]+)")
_PRE = {"a": 0, "alpha": 0, "b": 1, "beta": 1}  # every other word is a release candidate
_CANDIDATE, _FINAL, _BEFORE_PRE = 2, 3, -1


@dataclass(frozen=True, order=True)
class Version:
    """A version, ordered as PEP 440 says; the local part (`+cpu`) takes no part in it."""

    epoch: int
    release: tuple[int, ...]
    pre: tuple[int, int]
    post: int
    dev: tuple[int, int]

    @staticmethod
    def parse(text: str) -> Version | None:
        """None for what is no version of PEP 440."""
        match = _VERSION.fullmatch(text.strip())
        if match is None:
            return None
        release = [int(part) for part in match["release"].split(".")]
        while len(release) > 1 and release[-1] == 0:
            release.pop()
        post = match["post_bare"] or (match["post_n"] or "0" if match["post"] else "-1")
        return Version(
            epoch=int(match["epoch"] or 0),
            release=tuple(release),
            pre=_pre(match, post != "-1"),
            post=int(post),
            dev=(0, int(match["dev_n"] or 0)) if match["dev"] else (1, 0),
        )

    @property
    def preview(self) -> bool:
        return self.pre[0] != _FINAL or self.dev[0] == 0

    def starts_with(self, release: tuple[int, ...]) -> bool:
        padded = self.release + (0,) * len(release)
        return padded[: len(release)] == release


def _pre(match: re.Match[str], post: bool) -> tuple[int, int]:
    if match["pre"]:
        return (_PRE.get(match["pre"].lower(), _CANDIDATE), int(match["pre_n"] or 0))
    # 1.0.dev1 comes before 1.0a1, 1.0.post1.dev1 after 1.0.
    return (_BEFORE_PRE, 0) if match["dev"] and not post else (_FINAL, 0)


@dataclass(frozen=True)
class Range:
    """Version specifiers that must all hold; the empty range holds for every version."""

    text: str
    specifiers: tuple[tuple[str, str], ...]

    @staticmethod
    def parse(text: str) -> Range:
        pieces = [piece.strip() for piece in text.split(",") if piece.strip()]
        specifiers = []
        for piece in pieces:
            match = _SPECIFIER.fullmatch(piece)
            if match is None or _release(match["version"]) is None:
                raise InternalError(f"{piece!r} in {text!r} is no version specifier")
            specifiers.append((match["operator"], match["version"]))
        return Range(",".join(pieces), tuple(specifiers))

    def holds(self, text: str) -> bool:
        version = Version.parse(text)
        return version is not None and all(
            _holds(version, operator, bound) for operator, bound in self.specifiers
        )


def _release(text: str) -> Version | None:
    return Version.parse(text.removesuffix(".*"))


def _holds(version: Version, operator: str, text: str) -> bool:
    bound = _release(text)
    assert bound is not None  # Range.parse refused it otherwise.
    written = tuple(int(part) for part in re.findall(r"\d+", text.removesuffix(".*")))
    if operator in ("==", "!="):
        same = version.starts_with(written) if text.endswith(".*") else version == bound
        return same if operator == "==" else not same
    if operator == "~=":
        return version >= bound and version.starts_with(written[:-1])
    if operator == ">=":
        return version >= bound
    if operator == "<=":
        return version <= bound
    same_release = version.release == bound.release
    if operator == "<":  # PEP 440: 2.0rc1 is not <2.0, 2.0.post1 is not >2.0.
        return version < bound and not (version.preview and same_release and not bound.preview)
    return version > bound and not (version.post >= 0 and same_release and bound.post < 0)


@dataclass(frozen=True)
class Requirement:
    """A distribution and the versions of it that will do."""

    name: str
    range: Range

    @staticmethod
    def parse(text: str) -> Requirement:
        match = _REQUIREMENT.fullmatch(text.strip())
        if match is None or any(sign in text for sign in ";[@"):
            raise InternalError(
                f"{text!r} is no requirement that edgepipe reads",
                hint="a name and a range such as 'torch>=2.13,<2.14', no markers or extras.",
            )
        return Requirement(normal_name(match["name"]), Range.parse(match["range"]))

    def __str__(self) -> str:
        return f"{self.name}{self.range.text}"


def normal_name(name: str) -> str:
    """A distribution's name as PEP 503 writes it: `ONNX_Runtime` is `onnx-runtime`."""
    return re.sub(r"[-_.]+", "-", name).lower()
