"""Rotations as values: the keys and the machine configs of each step, and runs that end between them."""

import dataclasses
import itertools
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.engine import Reporter
from providers.talos import documents, pki, plan, rotation
from providers.talos.config import render
from providers.talos.identity import other_cluster
from providers.talos.pki import ClientCert
from providers.talos.resources import SecretsProvider
from providers.talos.rotation import NONE, STEPS, advance, is_due, wish
from providers.talos.secrets import SecretsBundle, talosconfig
from providers.talos.wire import admin, os_authority, pack, pack_for_worker, unpack
from tools import paths

OVERLAPPING = {"os-ca": ("os", "machine"), "kubernetes-ca": ("kubernetes", "cluster")}


def phases(bundle, what):
    """The keys before, after each step, and after the end."""
    found = [(bundle, NONE)]
    for step in range(1, len(STEPS[what]) + 2):
        found.append(advance(*found[-1], wish(what, step)))
    return found


def main(node_config, bundle, **changes):
    return documents.main(documents.load(render(dataclasses.replace(node_config, **changes), bundle)))


def certificates(section):
    signing = documents.decoded(section["ca"]["crt"])
    return signing, [documents.decoded(entry["crt"]) for entry in section.get("acceptedCAs", [])]


@pytest.mark.parametrize("what", OVERLAPPING)
@pytest.mark.parametrize("role", ["controlplane", "worker"])
def test_an_authority_is_accepted_then_signs_then_the_old_one_goes(node_config, bundle, what, role):
    field, section = OVERLAPPING[what]
    old = getattr(bundle, field).crt
    seen = [certificates(main(node_config, made, role=role)[section]) for made, _ in phases(bundle, what)]
    new = seen[-1][0]
    assert new != old
    assert seen == [(old, []), (old, [new]), (new, [old]), (new, []), (new, [])]


@pytest.mark.parametrize("what", STEPS)
def test_other_keys_stay(bundle, what):
    after = phases(bundle, what)[-1][0]
    changed = {
        item.name for item in dataclasses.fields(bundle) if getattr(bundle, item.name) != getattr(after, item.name)
    }
    expected = {
        "os-ca": {"os"},
        "kubernetes-ca": {"kubernetes"},
        "aggregator-ca": {"aggregator"},
        "service-account": {"service_account_key"},
        "bootstrap-tokens": {"bootstrap_token", "trustd_token"},
        "etcd-ca": {"etcd"},
    }
    assert changed == expected[what]


@pytest.mark.parametrize("what", STEPS)
def test_what_needs_a_reboot(node_config, bundle, what):
    for step, ((before, _), (after, _)) in enumerate(itertools.pairwise(phases(bundle, what)), 1):
        for role in ("controlplane", "worker"):
            node = dataclasses.replace(node_config, role=role)
            changes = plan.compare(render(node, before), render(node, after))
            assert changes.reboot == (("machine.token",) if (what, step) == ("bootstrap-tokens", 2) else ())


@pytest.mark.parametrize("what", OVERLAPPING)
def test_clients_and_nodes_of_neighbouring_steps_know_each_other(bundle, what):
    """A node may be a step ahead of a client, or a step behind."""
    field, _ = OVERLAPPING[what]
    made = [getattr(found, field) for found, _ in phases(bundle, what)]
    for one, other in itertools.pairwise(made):
        for client, node in ((one, other), (other, one)):
            assert client.signing in (node.signing, *node.accepted)
            assert node.signing in (client.signing, *client.accepted)


@pytest.mark.parametrize("what", OVERLAPPING)
def test_at_the_end_the_old_client_is_nobody(bundle, what):
    field, _ = OVERLAPPING[what]
    end = getattr(phases(bundle, what)[-1][0], field)
    assert getattr(bundle, field).crt not in (end.signing, *end.accepted)


@pytest.mark.parametrize("what", OVERLAPPING)
def test_the_old_key_is_kept_until_it_is_proven_worthless(bundle, what):
    field, _ = OVERLAPPING[what]
    kept = [state.going for _, state in phases(bundle, what)]
    assert kept == [pki.NOTHING, pki.NOTHING, getattr(bundle, field), getattr(bundle, field), pki.NOTHING]


@pytest.mark.parametrize("what", STEPS)
def test_a_killed_run_goes_on_where_it_was(bundle, what):
    """The same wish a second time changes nothing: the step was taken, whether or not anybody heard of it."""
    for (made, state), step in zip(phases(bundle, what)[1:-1], itertools.count(1), strict=False):
        again = rotation.unpack(rotation.pack(state))
        assert again == state
        assert advance(made, again, wish(what, step)) == (made, state)
        assert is_due(again, wish(what, step + 1))


def test_one_rotation_at_a_time(bundle):
    made, state = advance(bundle, NONE, "os-ca:1")
    assert not is_due(state, "kubernetes-ca:1")
    assert not is_due(state, "kubernetes-ca:2")
    assert advance(made, state, "kubernetes-ca:2") == (made, state)


@given(st.text(max_size=20))
def test_what_is_no_wish_changes_nothing(wished):
    assert not is_due(NONE, wished)


@pytest.mark.parametrize("wished", ["", "os-ca", "os-ca:0", "os-ca:2", "os-ca:-1", "os-ca:x", "nothing:1"])
def test_a_rotation_begins_with_its_first_step(wished):
    assert not is_due(NONE, wished)


def test_read_back_from_a_node_in_the_middle(node_config, bundle):
    """Lost state: the keys come from a control plane, and the config that is made of them is the one it has."""
    for what in OVERLAPPING:
        for made, _ in phases(bundle, what):
            read = SecretsBundle.from_machine_config(render(node_config, made))
            assert read == made


def test_a_rotation_whose_new_key_was_lost_begins_again(node_config, bundle):
    made, _ = advance(bundle, NONE, "os-ca:1")
    read = SecretsBundle.from_machine_config(render(node_config, made))
    assert read.os.key == bundle.os.key
    again, _ = advance(read, NONE, "os-ca:1")
    assert len(again.os.accepted) == 1
    assert again.os.accepted != made.os.accepted


def test_a_broken_accepted_authority_is_named(node_config, bundle):
    made, _ = advance(bundle, NONE, "os-ca:1")
    found = documents.load(render(node_config, made))
    found[0]["machine"]["acceptedCAs"][0]["crt"] = "not base64!"
    with pytest.raises(Exception, match=r"machine\.acceptedCAs is not base64"):
        SecretsBundle.from_machine_config(documents.dump(found))


def test_a_workers_share_holds_no_key_of_the_other_authority(bundle):
    for made, state in phases(bundle, "kubernetes-ca"):
        share = unpack(pack_for_worker(made))
        assert share.kubernetes.key == ""
        assert share.kubernetes.crt == made.kubernetes.crt
        assert not state.coming.key or state.coming.key not in str(dataclasses.asdict(share))


def test_a_certificate_for_this_run_trusts_both(bundle):
    made, _ = advance(bundle, NONE, "os-ca:1")
    cert = admin(os_authority(pack(made)))
    assert cert.ca.count("BEGIN CERTIFICATE") == 2
    pki.load_certificate(cert.crt).verify_directly_issued_by(pki.load_certificate(bundle.os.crt))


def test_a_talosconfig_of_the_middle_is_not_another_clusters(bundle, tmp_path):
    path = tmp_path / "talosconfig"
    old = talosconfig("home", bundle.issue_client(), ["10.0.0.1"])
    for made, _ in phases(bundle, "os-ca")[:3]:
        path.write_text(old)
        assert not other_cluster(path, made)
        path.write_text(talosconfig("home", made.issue_client(), ["10.0.0.1"]))
        assert not other_cluster(path, bundle)
    path.write_text(talosconfig("home", SecretsBundle.generate().issue_client(), ["10.0.0.1"]))
    assert other_cluster(path, phases(bundle, "os-ca")[2][0])


def test_nothing_secret_in_the_printed_form(bundle):
    shown = "".join(repr(state) for what in STEPS for _, state in phases(bundle, what))
    assert "PRIVATE" not in shown


def props(bundle, state, **changes):
    return {
        "cluster": "home",
        "control_planes": {},
        "workers": {},
        "talosconfig_path": "/nowhere/talosconfig",
        "rotate": "",
        **({"bundle": pack(bundle), "rotation": rotation.pack(state)} if bundle else {}),
        **changes,
    }


def test_the_secrets_change_only_when_a_step_is_due(bundle):
    provider = SecretsProvider()
    made, state = advance(bundle, NONE, "os-ca:1")

    def changes(olds, wished):
        return provider.diff("home", olds, props(None, NONE, rotate=wished)).changes

    assert changes(props(bundle, NONE), "os-ca:1")
    assert not changes(props(bundle, NONE), "")
    assert not changes(props(made, state, rotate="os-ca:1"), "os-ca:1")
    assert not changes(props(made, state, rotate="os-ca:1"), "")
    assert changes(props(made, state, rotate="os-ca:1"), "os-ca:2")
    older = {key: value for key, value in props(bundle, NONE).items() if key not in ("rotate", "rotation")}
    assert not changes(older, "")


def test_a_run_in_between_says_that_one_is_under_way(bundle, monkeypatch):
    said = []
    monkeypatch.setattr(Reporter, "warn", lambda _, text: said.append(text))
    made, state = advance(bundle, NONE, "os-ca:1")
    SecretsProvider().diff("home", props(made, state), props(None, NONE))
    assert said == ["os-ca is being rotated, step 1 of 3 is taken; `homelab rotate os-ca` goes on"]
    SecretsProvider().diff("home", props(made, state), props(None, NONE, rotate="os-ca:2"))
    SecretsProvider().diff("home", props(bundle, NONE), props(None, NONE))
    assert len(said) == 1


def test_an_update_takes_the_step_and_keeps_the_spare_key(bundle):
    outs = SecretsProvider().update("home", props(bundle, NONE), props(None, NONE, rotate="os-ca:1")).outs or {}
    kept = rotation.unpack(outs["rotation"])
    assert (kept.what, kept.step) == ("os-ca", 1)
    assert unpack(outs["bundle"]).os.accepted == (kept.coming.crt,)


def test_talos_takes_the_config_of_each_step(node_config, bundle, tmp_path):
    for what, role in itertools.product(STEPS, ("controlplane", "worker")):
        for number, (made, _) in enumerate(phases(bundle, what)):
            path = tmp_path / f"{what}-{role}-{number}.yaml"
            path.write_text(render(dataclasses.replace(node_config, role=role, talos="v1.12.0"), made))
            command = [str(paths.talosctl()), "validate", "--mode", "metal", "--config", str(path)]
            seen = subprocess.run(command, capture_output=True, text=True, check=False)
            assert seen.returncode == 0, f"{what} {role} {number}: {seen.stdout} {seen.stderr}"


def test_an_authority_with_one_certificate_is_itself():
    pair = pki.new_authority("talos", "ed25519")
    assert (pair.signing, pair.accepted) == (pair.crt, ())
    both = pair.accepting("-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----")
    assert both.signing == pair.crt
    assert both.accepting() == pair
    assert ClientCert(both.crt, "", "").ca.count("BEGIN") == 2
