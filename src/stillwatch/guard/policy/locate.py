"""Where in a TOML file each key stands: the reader of the standard library does not say.

It reads files that were read before without an error, so it only has to find its way.
"""

from __future__ import annotations

from typing import Final

Path = tuple[str | int, ...]
_BARE_ENDS: Final = frozenset(",]}\n#")
_SPACE: Final = frozenset(" \t\r\n")


def locate_keys(text: str) -> dict[Path, int]:
    r"""Find the line of every key.

    Args:
        text: valid TOML.

    Returns:
        path of keys and list places -> line, from 1. The first line of a table counts.

    Example:
        >>> locate_keys("[[rules]]\nid = 'a'")[("rules", 0, "id")]
        2
    """
    walk = _Walk(text)
    walk.document()
    return walk.lines


def line_of(lines: dict[Path, int], path: Path) -> int:
    """Give the line of a key, or of the nearest table around it.

    Args:
        lines: as `locate_keys` found them.
        path: the key's.

    Returns:
        The line, 1 when not even its first key is there.
    """
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 1


class _Walk:
    def __init__(self, text: str) -> None:
        self.text = text + "\n"
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._sizes: dict[Path, int] = {}
        self._counted = (0, 1)

    def document(self) -> None:
        table: Path = ()
        while self._skip():
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        is_list = self.text.startswith("[[", self.at)
        self.at += 2 if is_list else 1
        line = self._line()
        keys = self._keys("]")
        self.at += 2 if is_list else 1
        path = self._resolved(keys[:-1])
        path += (keys[-1],)
        if is_list:
            self.lines.setdefault(path, line)
            self._sizes[path] = self._sizes.get(path, -1) + 1
        if path in self._sizes:
            path += (self._sizes[path],)
        self.lines.setdefault(path, line)
        return path

    def _resolved(self, keys: list[str]) -> Path:
        path: Path = ()
        for key in keys:
            path += (key,)
            if path in self._sizes:
                path += (self._sizes[path],)
        return path

    def _pair(self, table: Path) -> None:
        line = self._line()
        for key in self._keys("="):
            table += (key,)
            self.lines.setdefault(table, line)
        self.at += 1
        self._value(table)

    def _keys(self, end: str) -> list[str]:
        keys: list[str] = []
        while True:
            self._skip()
            start = self.at
            if self.text[self.at] in "\"'":
                self._string()
                keys.append(self.text[start + 1 : self.at - 1])
            else:
                while self.text[self.at] not in "=.] \t":
                    self.at += 1
                keys.append(self.text[start : self.at])
            self._skip()
            if self.text[self.at] == end:
                return keys
            self.at += 1

    def _value(self, path: Path) -> None:
        self._skip()
        self.lines.setdefault(path, self._line())
        first = self.text[self.at]
        if first in "\"'":
            self._string()
        elif first in "[{":
            self._nested(path, end="]" if first == "[" else "}")
        else:
            while self.text[self.at] not in _BARE_ENDS:
                self.at += 1

    def _nested(self, path: Path, *, end: str) -> None:
        self.at += 1
        place = 0
        while self._skip() and self.text[self.at] != end:
            if self.text[self.at] == ",":
                self.at += 1
            elif end == "]":
                self._value((*path, place))
                place += 1
            else:
                self._pair(path)
        self.at += 1

    def _string(self) -> None:
        quote = self.text[self.at]
        mark = quote * 3 if self.text.startswith(quote * 3, self.at) else quote
        self.at += len(mark)
        while not self.text.startswith(mark, self.at):
            self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
        self.at += len(mark)
        # Up to two quotes may stand right before the three that end a long string.
        while len(mark) == 3 and self.text[self.at] == quote:
            self.at += 1

    def _skip(self) -> bool:
        text, at = self.text, self.at
        while at < len(text) and (text[at] in _SPACE or text[at] == "#"):
            at = text.index("\n", at) if text[at] == "#" else at + 1
        self.at = at
        return at < len(text)

    def _line(self) -> int:
        seen, line = self._counted
        line += self.text.count("\n", seen, self.at)
        self._counted = (self.at, line)
        return line
