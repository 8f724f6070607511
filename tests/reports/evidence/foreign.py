"""Run by the interpreter that the validators are installed in: tools of others, asked about evidence of ours.

Each command ends with 0 when the tool takes what it is given.
"""

from __future__ import annotations

import copy
import functools
import io
import json
import sys
from pathlib import Path


def seed(cache: str, address: str, file: str) -> None:
    """Fill the validator's cache with a page as its server would send it, so that it asks no server."""
    from requests.adapters import HTTPAdapter
    from requests_cache import CachedSession
    from urllib3 import HTTPResponse

    class Disk(HTTPAdapter):
        def send(self, request, **options):
            headers = {"Content-Type": "application/ld+json"}
            body = io.BytesIO(Path(file).read_bytes())
            return self.build_response(request, HTTPResponse(body, headers, 200, preload_content=False))

    session = CachedSession(cache, backend="sqlite", expire_after=-1)
    session.mount("https://", Disk())
    assert session.get(address).status_code == 200


def statement(file: str) -> None:
    """Parse a statement and its predicate by the protocol buffers of in-toto, which refuse what they do not know."""
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.predicates.vsa.v1 import vsa_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    told = json.loads(Path(file).read_text())
    Statement.copy_from_pb(json_format.ParseDict(told, statement_pb2.Statement())).validate()
    predicate = dict(told["predicate"])
    if told["predicateType"] == "https://slsa.dev/provenance/v1":
        json_format.ParseDict(predicate, provenance_pb2.Provenance())
    else:
        # the protocol buffer has one text where SLSA's page has a list
        assert all(isinstance(level, str) for level in predicate.pop("verifiedLevels"))
        json_format.ParseDict(predicate, vsa_pb2.VerificationSummary())


def documents(folder: str) -> None:
    """All bills, statements and PROV of an audit; one interpreter for all, since the tools take long to start."""
    for path in sorted(Path(folder).iterdir()):
        if path.name.endswith(".cdx.json"):
            bom(str(path))
        elif path.name.endswith(".intoto.json"):
            statement(str(path))
        elif path.name == "prov.json":
            prov(str(path))


def envelope(file: str, key: str) -> None:
    """Verify an envelope with securesystemslib and a public key in PEM."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

    told = json.loads(Path(file).read_text())
    keyid = told["signatures"][0]["keyid"]
    public = SSlibKey.from_crypto(load_pem_public_key(Path(key).read_bytes()), keyid=keyid)
    Envelope.from_dict(copy.deepcopy(told)).verify([public], 1)


def prov(file: str) -> None:
    """Read a PROV document, write it, read it again: it stays the same."""
    from prov.model import ProvDocument

    first = ProvDocument.deserialize(file)
    assert first == ProvDocument.deserialize(content=first.serialize())
    assert len(list(first.get_records())) == sum(
        len(group) for kind, group in json.loads(Path(file).read_text()).items() if kind != "prefix"
    )


def bom(file: str) -> None:
    """Validate a bill against the strict schema of CycloneDX 1.6."""
    problem = _strict_bills().validate_str(Path(file).read_text())
    assert problem is None, problem


@functools.cache
def _strict_bills():
    """The validator: reading its schemas takes longer than most bills."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return JsonStrictValidator(SchemaVersion.V1_6)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
