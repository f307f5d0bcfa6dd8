"""OpenAI's files, as far as batches need them."""

from __future__ import annotations

import time
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import msgspec

from stillwatch.model.fake_server.protocol import HttpRequest
from stillwatch.wire import chat

_encode = msgspec.json.Encoder().encode


class FileShelf:
    """Files by their ids."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[str, bytes]] = {}
        self._n_kept = 0

    def content(self, file_id: str) -> bytes:
        """Give a file's bytes.

        Args:
            file_id: its id.

        Returns:
            The bytes.

        Raises:
            KeyError: there is no such file.
        """
        return self._files[file_id][1]

    def keep(self, name: str, content: bytes) -> str:
        """Keep a file.

        Args:
            name: its name.
            content: its bytes.

        Returns:
            Its id.
        """
        self._n_kept += 1
        file_id = f"file-{self._n_kept:06d}"
        self._files[file_id] = name, content
        return file_id

    def handle(self, request: HttpRequest, rest: list[str]) -> tuple[int, bytes]:
        """Reply to a request for a file.

        Args:
            request: what it is.
            rest: the parts of its path behind `/files`.

        Returns:
            Status and body.
        """
        if request.method == "POST" and not rest:
            return self._take(request)
        if not rest:
            data = [self._object(file_id) for file_id in self._files]
            return 200, _encode({"object": "list", "data": data, "has_more": False})
        file_id = rest[0]
        if file_id not in self._files:
            return 404, chat.encode_error(404, "no such file")
        if request.method == "DELETE":
            del self._files[file_id]
            return 200, _encode({"id": file_id, "object": "file", "deleted": True})
        if rest[1:] == ["content"]:
            return 200, self._files[file_id][1]
        return 200, _encode(self._object(file_id))

    def _take(self, request: HttpRequest) -> tuple[int, bytes]:
        file = uploaded(request)
        if file is None:
            return 400, chat.encode_error(400, "no file, or purpose is not batch")
        return 200, _encode(self._object(self.keep(*file)))

    def _object(self, file_id: str) -> dict[str, Any]:
        name, content = self._files[file_id]
        return {
            "id": file_id,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": name,
            "purpose": "batch",
            "status": "processed",
        }


def uploaded(request: HttpRequest) -> tuple[str, bytes] | None:
    """Take the file out of a form.

    Args:
        request: with a multipart body.

    Returns:
        Its name and its bytes; None when the form holds none, or does not say that it is a batch.
    """
    head = f"content-type: {request.headers.get('content-type', '')}\r\n\r\n".encode()
    form = BytesParser(policy=HTTP).parsebytes(head + request.body)
    file, purpose = None, b""
    for part in form.walk():
        content, name = part.get_payload(decode=True), part.get_filename()
        if isinstance(content, bytes):
            if name is not None:
                file = name, content
            elif part.get_param("name", header="content-disposition") == "purpose":
                purpose = content
    return file if purpose.strip() == b"batch" else None
