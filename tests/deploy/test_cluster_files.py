"""The files for several nodes: HAProxy, Compose and Kubernetes accept them, and they agree in all names."""

import copy
import ipaddress
import re
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import trustme
import yaml
from compose_spec import PyCompose

ROOT = Path(__file__).parents[2]
CLUSTER, KUBERNETES = ROOT / "deploy" / "cluster", ROOT / "deploy" / "kubernetes"
CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text()
COMPOSE = yaml.safe_load((CLUSTER / "compose.yaml").read_text())
HAPROXY = (CLUSTER / "haproxy.cfg").read_text()
SERVER = re.compile(r"^ +server (\S+) (10\.\S+):(\d+)", re.MULTILINE)
KUBERNETES_VERSIONS = ["1.29", "1.37"]
"""The oldest one that the page names, and the newest that the validator knows."""
SECRETS = re.compile(r"/run/secrets/\S+/?(?=\s)")
DISKLESS = ("/etc/gatepost", "/run/secrets")
"""Folders that are read-only in both."""


@pytest.fixture
def haproxy(tmp_path):
    """What HAProxy says of settings, with a certificate that exists."""
    pem = tmp_path / "desk.pem"
    issued = trustme.CA().issue_cert("desk.example.com")
    issued.private_key_and_cert_chain_pem.write_to_path(str(pem))

    def check(settings):
        file = tmp_path / "haproxy.cfg"
        file.write_text(settings.replace("/etc/haproxy/desk.pem", str(pem)))
        command = [shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin"), "-c", "-f", file]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return check


@pytest.mark.real("haproxy")
def test_haproxy_finds_its_file_valid_and_warns_of_nothing(haproxy):
    status, said = haproxy(HAPROXY)
    assert (status, "WARNING" in said) == (0, False), said
    assert haproxy(HAPROXY.replace("send-proxy-v2", "send-proxy-v3"))[0] != 0


def test_the_compose_file_is_one():
    PyCompose.from_yaml(yaml.safe_dump(COMPOSE)).validate()
    wrong = copy.deepcopy(COMPOSE)
    wrong["services"]["mx1"]["readonly"] = True
    with pytest.raises(ValueError, match="readonly"):
        PyCompose.from_yaml(yaml.safe_dump(wrong))


def test_haproxy_knows_each_gateway_of_the_compose_file_by_its_address_and_ports():
    addresses = {
        name: service["networks"]["gateways"]["ipv4_address"]
        for name, service in COMPOSE["services"].items()
        if service["image"] == "gatepost"
    }
    assert len(addresses) == 2
    named = SERVER.findall(HAPROXY)
    for port in (2525, 8025):
        assert {(name.removesuffix("-not-ready"), host) for name, host, at in named if int(at) == port} == {
            *addresses.items()
        }
    rules = yaml.safe_load((CLUSTER / "gateway" / "rules.yaml").read_text())
    assert {rules["listen"]["address"], rules["web"]["address"]} == {"0.0.0.0:2525", "0.0.0.0:8025"}
    for url in (rules["store"]["url"], rules["state"]["url"]):
        assert re.search(r"//(?:\w+@)?(\w+)", url)[1] in COMPOSE["services"]


def test_the_gateways_believe_haproxy_alone_and_no_address_is_given_twice():
    """Clients on the same machine come from the network's first address: they may not name another one."""
    addresses = {
        name: ipaddress.ip_address(service["networks"]["gateways"]["ipv4_address"])
        for name, service in COMPOSE["services"].items()
        if isinstance(service["networks"], dict)
    }
    assert {*addresses} == {"haproxy", "mx1", "mx2"}
    rules = yaml.safe_load((CLUSTER / "gateway" / "rules.yaml").read_text())
    for trusted in (rules["listen"]["proxy_protocol_from"], rules["web"]["forwarded_from"]):
        assert ipaddress.ip_network(trusted) == ipaddress.ip_network(addresses["haproxy"])
    (network,) = COMPOSE["networks"]["gateways"]["ipam"]["config"]
    subnet, dynamic = (ipaddress.ip_network(network[name]) for name in ("subnet", "ip_range"))
    assert dynamic.subnet_of(subnet)
    for address in addresses.values():
        assert address in subnet
        assert address not in dynamic


def test_a_gateway_writes_in_a_folder_that_docker_and_podman_make_for_everybody():
    """Podman rejects `uid=`, and gives a tmpfs the mode of the image's folder: /tmp is writable in both."""
    rules = yaml.safe_load((CLUSTER / "gateway" / "rules.yaml").read_text())
    (volume,) = re.findall(r"^VOLUME (\S+)$", CONTAINERFILE, re.MULTILINE)
    for name in ("mx1", "mx2"):
        assert {*COMPOSE["services"][name]["tmpfs"]} == {"/tmp", volume}
    assert Path(rules["pid_file"]).parent == Path("/tmp")


def test_the_users_of_the_images_can_read_their_secrets():
    """As the page has them made: by user 10001 of the nodes, group 999 of PostgreSQL, user 99 of HAProxy."""
    page = (
        (ROOT / "docs" / "cluster.md").read_text().partition("### With Compose\n")[2].partition("\n### ")[0]
    )
    owners = dict(re.findall(r"^chown (\S+) secrets/(\S+)$", page, re.MULTILINE))
    (user,) = re.findall(r"^USER (\d+):", CONTAINERFILE, re.MULTILINE)
    assert {name: owner for owner, name in owners.items()} == {
        "*-password": f"{user}:999",
        "desk.pem": "99:99",
    }
    assert re.findall(r"^chmod (\d+) secrets/\*$", page, re.MULTILINE) == ["440"]
    files = {secret["file"] for secret in COMPOSE["secrets"].values()}
    files |= {volume.split(":")[0] for volume in COMPOSE["services"]["haproxy"]["volumes"]}
    made = {f"./{name}" for name in re.findall(r"> (secrets/\S+)$", page, re.MULTILINE)}
    assert files - made == {"./haproxy.cfg"}


@pytest.mark.parametrize("folder", [CLUSTER / "gateway", KUBERNETES], ids=["compose", "kubernetes"])
def test_the_settings_are_valid_and_write_only_where_a_container_may(folder, tmp_path):
    text = (folder / "rules.yaml").read_text()
    given = yaml.safe_load(text)
    assert not given["pid_file"].startswith(DISKLESS)
    (tmp_path / "password").write_text("swordfish")
    (tmp_path / "password").chmod(0o600)
    text = text.replace(given["pid_file"], str(tmp_path / "gatepost.pid"))
    text = SECRETS.sub(str(tmp_path / "password"), text)
    (tmp_path / "rules.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "gatepost", "check"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def objects():
    """What `kubectl apply -k` makes, but for the ConfigMap."""
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert {*listed} == {file.name for file in KUBERNETES.iterdir()} - {"kustomization.yaml", "rules.yaml"}
    return [one for name in listed for one in yaml.safe_load_all((KUBERNETES / name).read_text())]


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_the_schemas_of_kubernetes_accept_each_object(version):
    kinds = []
    for one in objects():
        kubernetes_validate.validate(one, version, strict=True)
        kinds.append(one["kind"])
        with pytest.raises(kubernetes_validate.ValidationError, match="selectors"):
            kubernetes_validate.validate(
                {**one, "spec": {**one["spec"], "selectors": {}}}, version, strict=True
            )
    assert sorted(kinds) == ["Deployment", "PodDisruptionBudget", "Service", "Service"]


def test_the_pods_may_do_no_more_than_they_need_as_the_user_of_the_image():
    deployment = next(one for one in objects() if one["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    user, group = map(int, re.search(r"^USER (\d+):(\d+)$", CONTAINERFILE, re.MULTILINE).groups())
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": group,
        "fsGroup": group,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert {*container["resources"]} == {"requests", "limits"}
    assert {f"{name}Probe" for name in ("startup", "readiness", "liveness")} <= container.keys()
    assert pod["terminationGracePeriodSeconds"] > 5 + 20, "preStop and limits.shutdown_time are within it"


def test_the_objects_name_each_other_as_they_are_called():
    found = objects()
    deployment = next(one for one in found if one["kind"] == "Deployment")
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    pod = template["spec"]
    (container,) = pod["containers"]
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    for one in found:
        selector = one["spec"]["selector"]
        assert selector.get("matchLabels", selector) == labels
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    rules = yaml.safe_load((KUBERNETES / "rules.yaml").read_text())
    assert {str(port) for port in ports.values()} == {
        rules["listen"].rpartition(":")[2],
        rules["web"]["address"].rpartition(":")[2],
    }
    targets = [
        port["targetPort"] for one in found if one["kind"] == "Service" for port in one["spec"]["ports"]
    ]
    probes = [container[f"{name}Probe"]["httpGet"]["port"] for name in ("startup", "readiness", "liveness")]
    assert {*targets, *probes} == {*ports}
    (generated,) = kustomization["configMapGenerator"]
    assert generated["files"] == ["rules.yaml"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["rules"]["configMap"]["name"] == generated["name"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {*volumes}
    (image,) = kustomization["images"]
    assert container["image"] == image["name"]
    passwords = next(one["mountPath"] for one in container["volumeMounts"] if one["name"] == "passwords")
    for section in ("store", "web"):
        assert rules[section]["password_file"].startswith(f"{passwords}/")
