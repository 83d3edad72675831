"""Objects of a store: weights, checkpoints, records and logs, each some bytes under a name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from logit_store.errors import MissingObject
from logit_store.files import Files, check_exists
from logit_store.json_objects import decode_json, encode_json
from logit_store.paths import check_object_name


class Objects:
    """The objects of a store.

    A name is `teachers/v1/MEMBER/FILE`, `students/v1/MEMBER/FILE`, `weights/v1/NAME/FILE`,
    `search/v1/NAME/FILE`, `jobs/v1/JOB/FILE` or `units/v1/JOB/UNIT/FILE`; any other name is a
    ValueError.
    """

    def __init__(self, files: Files, address: str) -> None:
        self._files, self._address = files, address

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Store an object, or replace it.

        Raises:
            StoreFull: no space is left; an older object of that name is untouched.
        """
        self._files.put(check_object_name(name), data)

    def read(self, name: str) -> bytes:
        """Return the bytes of an object.

        Raises:
            MissingObject: there is no such object.
        """
        self._check_present(name)
        return self._files.get(name)

    def write_json(self, name: str, document: Mapping[str, Any]) -> None:
        """Store a document as JSON, with a digest, or replace it.

        Raises:
            StoreFull: no space is left; an older object of that name is untouched.
            TypeError, ValueError: the document is no JSON.
        """
        self.write(name, encode_json(document))

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the document that an object holds.

        Raises:
            MissingObject: there is no such object.
            DamagedFile: it is not what was written.
        """
        return decode_json(self.read(name), self.locate(name))

    def __contains__(self, name: str) -> bool:
        return self._files.has(check_object_name(name))

    def delete(self, name: str) -> None:
        """Delete an object if there is one of that name."""
        self._files.delete(check_object_name(name))

    def locate(self, name: str) -> str:
        """Return the full address at which an object lies, or would lie."""
        return self._files.locate(check_object_name(name))

    def fetch(self, name: str) -> Path:
        """Return the path of an object, or of a copy of it, on this machine.

        Raises:
            MissingObject: there is no such object.
        """
        self._check_present(name)
        return self._files.fetch(name)

    def _check_present(self, name: str) -> None:
        if name not in self:
            check_exists(self._files, self._address)
            raise MissingObject(name, store=self._address)
