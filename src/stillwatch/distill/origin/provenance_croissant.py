"""The kept answers as a Croissant 1.1 data set that attributes them to the teacher.

The answer field is attributed to the teacher as an agent (PROV-O), its release is an ODRL offer,
and the data set says that it is synthetic (RAI). Paths are relative, so the file describes the
folder it lies in.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stillwatch.distill.origin.manifest import FileFact, file_fact
from stillwatch.distill.permit.permission import PermissionStamp
from stillwatch.record.disk import replace_json

#: The record's name in a run's folder.
CROISSANT = "croissant.json"
_STANDARDS = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
_TERMS = (
    "annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes",
    "extract", "field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray",
    "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "readLines", "recordSet",
    "references", "regex", "repeated", "replace", "samplingRate", "sdVersion", "separator",
    "source", "subField", "transform", "unArchive", "value",
)  # fmt: skip
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "odrl": "http://www.w3.org/ns/odrl/2/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{term: f"cr:{term}" for term in _TERMS},
}
#: Fields of a kept example: name, column, paths within it one after the other, what it is.
_FIELDS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("item_id", "item", ("$.item_id",), "Hash of what was asked."),
    ("roles", "item", ("$.messages", "$.role"), "Who spoke, turn by turn."),
    ("messages", "item", ("$.messages", "$.content"), "What was said, turn by turn."),
    ("answer", "answer", ("$.text",), "The teacher's answer."),
    ("exchange_id", "exchange_id", (), "Where the answer rests in the record."),
)


def croissant(
    run_dir: Path,
    *,
    permission: PermissionStamp,
    name: str = "",
    creator: str = "",
    period: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Describe `kept.jsonl` and write `croissant.json` beside it, atomically.

    Args:
        run_dir: the run's folder, with `kept.jsonl` in it.
        permission: the stamp that the answers were asked under.
        name: of the data set; "" takes the folder's.
        creator: who asked; "" says only that the run's user did.
        period: when the first and the last answer came (UTC epoch seconds), or None.

    Returns:
        The record as plain JSON data.
    """
    run_dir = Path(run_dir)
    fact = file_fact(run_dir / "kept.jsonl")
    name = name or run_dir.name
    record: dict[str, Any] = {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "name": name,
        "description": f"Answers of {permission.model} to a run's questions, as kept for training.",
        "conformsTo": list(_STANDARDS),
        "version": "1.0.0",
        "citeAs": f"{name}: answers of {permission.model}, permission {permission.permission_id}, "
        f"SHA-256 {fact.sha256}",
        "datePublished": _day(period[1] if period else (run_dir / "kept.jsonl").stat().st_mtime),
        "creator": {"@type": "sc:Organization", "name": creator or "the user of the run"},
        "license": _licence(permission),
        "url": f"urn:sha256:{fact.sha256}",
        "usageInfo": _offer(permission),
        **_rai(permission),
        "prov:wasAttributedTo": _teacher(permission),
        "prov:wasGeneratedBy": _asking(permission, period),
        "distribution": [_file(fact)],
        "recordSet": [_records(permission, period)],
    }
    replace_json(run_dir / CROISSANT, record)
    return record


def _records(permission: PermissionStamp, period: tuple[float, float] | None) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "examples",
        "name": "examples",
        "description": "Questions with the teacher's answers.",
        "field": [_field(row, permission, period) for row in _FIELDS],
    }


def _rai(permission: PermissionStamp) -> dict[str, Any]:
    return {
        "rai:hasSyntheticData": True,
        "rai:dataCollection": "Questions were sent to a model and its answers recorded; refused, "
        "truncated and contaminated answers were left out as filter.json counts.",
        "rai:dataCollectionType": ["Others"],
        "rai:machineAnnotationTools": [permission.model],
        "rai:dataLimitations": "The answers are a model's: they may be wrong or biased as it is.",
    }


def _file(fact: FileFact) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": "kept.jsonl",
        "name": "kept.jsonl",
        "description": "One kept example a line.",
        "contentUrl": "kept.jsonl",
        "contentSize": f"{fact.n_bytes} B",
        "encodingFormat": "application/jsonlines",
        "sha256": fact.sha256,
    }


def _field(
    row: tuple[str, str, tuple[str, ...], str],
    permission: PermissionStamp,
    period: tuple[float, float] | None,
) -> dict[str, Any]:
    name, column, paths, told = row
    source: dict[str, Any] = {"fileObject": {"@id": "kept.jsonl"}, "extract": {"column": column}}
    if paths:
        source["transform"] = [{"jsonPath": path} for path in paths]
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"examples/{name}",
        "name": name,
        "description": told,
        "dataType": "sc:Text",
        "source": source,
    }
    if len(paths) > 1:
        field |= {"isArray": True, "arrayShape": "-1"}
    if name == "answer":
        field["prov:wasAttributedTo"] = _teacher(permission)
        field["prov:wasGeneratedBy"] = _asking(permission, period)
    return field


def _teacher(permission: PermissionStamp) -> dict[str, Any]:
    agent: dict[str, Any] = {
        "@type": ["prov:Agent", "prov:SoftwareAgent"],
        "@id": f"urn:stillwatch:teacher:{permission.permission_id}",
        "prov:label": permission.model,
    }
    if permission.endpoint.startswith("http"):
        agent["prov:atLocation"] = permission.endpoint
    if permission.permission.endpoint_owner:
        agent["prov:actedOnBehalfOf"] = {
            "@type": ["prov:Agent", "prov:Organization"],
            "prov:label": permission.permission.endpoint_owner,
        }
    return agent


def _asking(permission: PermissionStamp, period: tuple[float, float] | None) -> dict[str, Any]:
    activity: dict[str, Any] = {
        "@type": "prov:Activity",
        "@id": f"urn:stillwatch:asking:{permission.permission_id}",
        "prov:label": f"distillation by asking, permission {permission.basis}",
    }
    if period is not None:
        activity["prov:startedAtTime"] = _time(period[0])
        activity["prov:endedAtTime"] = _time(period[1])
    return activity


def _offer(permission: PermissionStamp) -> dict[str, Any]:
    """Who may use the answers: the one who asked, unless the grant covers giving them away."""
    claim = permission.permission
    shared = claim.grant is not None and "share-answers" in claim.grant.scopes
    offer: dict[str, Any] = {
        "@type": ["sc:CreativeWork", "odrl:Offer"],
        "name": f"permission {permission.permission_id} ({permission.basis})",
        "odrl:permission": {"@type": "odrl:Permission", "odrl:action": {"@id": "odrl:use"}},
        "odrl:duty": [
            {"@type": "odrl:Duty", "odrl:action": {"@id": "odrl:attribute"}, "name": one}
            for one in claim.obligations
        ],
    }
    if permission.basis in {"written-grant", "terms"} and not shared:
        offer["odrl:prohibition"] = {
            "@type": "odrl:Prohibition",
            "odrl:action": {"@id": "odrl:distribute"},
        }
    return offer


def _licence(permission: PermissionStamp) -> str:
    """The page that says what may be done with the answers, as far as the permission names one."""
    claim = permission.permission
    spdx = claim.licence_spdx
    if spdx and " " not in spdx and not spdx.startswith("LicenseRef-"):
        return f"https://spdx.org/licenses/{spdx}.html"
    return claim.terms_url or "not released: for the one who asked"


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
