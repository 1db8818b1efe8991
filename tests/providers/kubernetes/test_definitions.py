"""A chart's CRDs, on a real kube-apiserver."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.engine import Reporter
from providers.errors import DeadlineError, ProtocolError, RefusedError
from providers.kubernetes import definitions
from providers.kubernetes.definitions import are_there, digest, has_definitions
from tests.providers.kubernetes.servers import Cluster

WAIT_S = 30.0


def chart(folder: Path, **files: str) -> Path:
    """An archive with these files; two underscores in a name stand for a slash."""
    archive = folder / "chart.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"thing/{name.replace('__', '/')}.yaml")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return archive


def kind(plural: str, **fields: str) -> str:
    """A CRD as YAML."""
    schema = {"type": "object", "properties": {name: {"type": what} for name, what in fields.items()}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": plural, "singular": plural[:-1], "kind": plural[:-1].title()}
    return yaml.safe_dump(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
        }
    )


def props(api: Cluster, archive: Path) -> dict[str, Any]:
    return {"kubeconfig": api.kubeconfig, "archive": str(archive)}


def applied(api: Cluster, archive: Path) -> list[str]:
    return definitions.apply(props(api, archive), Reporter("urn"), WAIT_S)


def test_those_of_the_chart_and_of_charts_inside_it_are_served(api, tmp_path):
    archive = chart(
        tmp_path,
        crds__one=f"{kind('apples')}---\n{kind('pears')}---\n",
        charts__crds__crds__two=kind("plums"),
        templates__three="{{ not yaml }}",
        values="a: 1",
    )
    names = applied(api, archive)
    assert names == ["apples.example.com", "pears.example.com", "plums.example.com"]
    for plural in ("apples", "pears", "plums"):
        assert api.get(f"/apis/example.com/v1/namespaces/default/{plural}")["items"] == []
    assert are_there({**props(api, archive), "names": names})
    assert not are_there({**props(api, archive), "names": [*names, "quinces.example.com"]})


def test_the_next_version_of_a_chart_brings_its_kinds_up_to_date(api, tmp_path):
    applied(api, chart(tmp_path, crds__one=kind("grapes", colour="string")))
    before = digest(tmp_path / "chart.tgz")
    applied(api, chart(tmp_path, crds__one=kind("grapes", colour="string", seeds="integer")))
    assert digest(tmp_path / "chart.tgz") != before
    grape = {"apiVersion": "example.com/v1", "kind": "Grape", "metadata": {"name": "g"}, "seeds": 3}
    assert api.make("/apis/example.com/v1/namespaces/default/grapes", grape)["seeds"] == 3


def test_kinds_that_helm_or_somebody_else_made_are_taken_over(api, tmp_path):
    body = yaml.safe_load(kind("figs", colour="integer"))
    api.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)
    applied(api, chart(tmp_path, crds__one=kind("figs", colour="string")))
    found = api.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/figs.example.com")
    schema = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema["properties"]["colour"] == {"type": "string"}


def test_a_bare_equals_sign_is_a_text(tmp_path):
    text = kind("nuts").replace("kind: Nut", "kind: Nut\n    shortNames: [=]")
    (found,) = definitions.definitions(chart(tmp_path, crds__one=text))
    assert found["spec"]["names"]["shortNames"] == ["="]


def test_most_charts_bring_none(tmp_path):
    assert not has_definitions(chart(tmp_path, templates__crds=kind("apples"), values="a: 1"))
    assert has_definitions(chart(tmp_path, charts__one__crds__x=kind("apples")))


def test_what_the_api_server_refuses_is_said(api, tmp_path):
    wrong = kind("dates").replace("scope: Namespaced", "scope: Everywhere")
    with pytest.raises(RefusedError, match="Everywhere"):
        applied(api, chart(tmp_path, crds__one=wrong))


def test_an_api_that_stays_away_ends_the_wait(api, tmp_path):
    archive = chart(tmp_path, crds__one=kind("apples"))
    away = {**props(api, archive), "kubeconfig": api.kubeconfig.replace(":6443", ":9")}
    with pytest.raises(DeadlineError, match=r"apples\.example\.com: applied"):
        definitions.apply(away, Reporter("urn"), 0.5)
    assert are_there({**away, "names": ["apples.example.com"]})  # nobody can say


def test_something_else_among_the_definitions(tmp_path):
    with pytest.raises(ProtocolError, match="no CustomResourceDefinition"):
        list(definitions.definitions(chart(tmp_path, crds__one="kind: Secret")))


def test_a_file_that_is_no_archive(tmp_path):
    (tmp_path / "chart.tgz").write_bytes(b"\x1f\x8b nothing")
    with pytest.raises(ProtocolError, match="can't be read as the archive of a chart"):
        has_definitions(tmp_path / "chart.tgz")
